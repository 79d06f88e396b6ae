//! Twins of deployment.go.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::{scale_subresource, status_endpoints};
use crate::fixtures::{deployment, grace, replica_set};
use crate::images::{AGNHOST_IMAGE, OLD_AGNHOST_IMAGE, PAUSE_IMAGE};
use crate::rest::{Cx, FOREVER, Watch, labelled, random, version};
use crate::waits::{self, LONG, complete, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]",
        "deployment",
        rolling_update
    ),
    twin!(
        "[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones [Conformance]",
        "deployment",
        recreate
    ),
    twin!(
        "[sig-apps] Deployment deployment should delete old replica sets [Conformance]",
        "deployment",
        old_replica_sets
    ),
    twin!(
        "[sig-apps] Deployment deployment should support rollover [Conformance]",
        "deployment",
        rollover
    ),
    twin!(
        "[sig-apps] Deployment Deployment should have a working scale subresource [Conformance]",
        "deployment",
        scale
    ),
    twin!(
        "[sig-apps] Deployment deployment should support proportional scaling [Conformance]",
        "deployment",
        proportional
    ),
    twin!(
        "[sig-apps] Deployment should run the lifecycle of a Deployment [Conformance]",
        "deployment",
        lifecycle
    ),
    twin!(
        "[sig-apps] Deployment should validate Deployment Status endpoints [Conformance]",
        "deployment",
        status
    ),
];

const MINUTE: Duration = Duration::from_secs(60);

fn path(cx: &Cx, name: &str) -> String {
    cx.group("apps/v1", &format!("deployments/{name}"))
}

async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    let path = cx.group("apps/v1", "deployments");
    cx.ok(Method::POST, &path, object).await
}

async fn create_set(cx: &Cx, object: &Value) -> Result<Value> {
    let path = cx.group("apps/v1", "replicasets");
    cx.ok(Method::POST, &path, object).await
}

fn image(object: &mut Value, image: &str) {
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
}

async fn rolling_update(cx: Cx) -> Result<()> {
    let labels = json!({"name": "sample-pod", "pod": "agnhost"});
    let mut set = replica_set(
        "test-rolling-update-controller",
        1,
        labels,
        "agnhost",
        AGNHOST_IMAGE,
    );
    set["metadata"]["annotations"] =
        json!({"deployment.kubernetes.io/revision": "3546343826724305832"});
    create_set(&cx, &set).await?;
    waits::pods_running(&cx, "name=sample-pod", 1).await?;
    let d = "test-rolling-update-deployment";
    let labels = json!({"name": "sample-pod"});
    create(&cx, &deployment(d, 1, labels, "agnhost", AGNHOST_IMAGE)).await?;
    waits::revision(&cx, d, "3546343826724305833", AGNHOST_IMAGE).await?;
    let done = waits::deployment_complete(&cx, d).await?;
    let (_, old) = waits::replica_sets(&cx, &done).await?;
    ensure!(
        old.len() == 1 && name(&old[0]) == "test-rolling-update-controller",
        "old ReplicaSets: {old:?}"
    );
    Ok(())
}

async fn recreate(cx: Cx) -> Result<()> {
    let d = "test-recreate-deployment";
    let labels = json!({"name": "sample-pod-3"});
    let mut object = deployment(d, 1, labels, "agnhost", OLD_AGNHOST_IMAGE);
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    create(&cx, &object).await?;
    waits::revision(&cx, d, "1", OLD_AGNHOST_IMAGE).await?;
    waits::deployment_complete(&cx, d).await?;
    let updated = cx
        .update(&path(&cx, d), |o| image(o, AGNHOST_IMAGE))
        .await?;
    let query = format!(
        "fieldSelector=metadata.name%3D{d}&resourceVersion={}",
        version(&updated)?
    );
    let all = cx.group("apps/v1", "deployments");
    let mut watch = cx.watch(&all, &query).await?;
    let end = tokio::time::Instant::now() + 2 * MINUTE;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let (_, seen) = watch.next(left).await.context("the rollout")?;
        let count = |c: &str| number(&seen["status"][c]);
        let (new, all) = (count("updatedReplicas"), count("replicas"));
        ensure!(
            new == 0 || new == all,
            "old and new pods at once: {}",
            seen["status"]
        );
        if new == all
            && new == number(&seen["spec"]["replicas"])
            && number(&seen["metadata"]["generation"]) <= count("observedGeneration")
        {
            return Ok(());
        }
    }
}

async fn old_replica_sets(cx: Cx) -> Result<()> {
    let labels = json!({"name": "cleanup-pod", "pod": "agnhost"});
    let set = replica_set(
        "test-cleanup-controller",
        1,
        labels,
        "agnhost",
        AGNHOST_IMAGE,
    );
    create_set(&cx, &set).await?;
    waits::pods_running(&cx, "name=cleanup-pod", 1).await?;
    let pods = cx.core("pods");
    let since = version(&cx.get(&pods).await?)?;
    let watch = cx.watch(&pods, &format!("resourceVersion={since}")).await?;
    let d = "test-cleanup-deployment";
    let labels = json!({"name": "cleanup-pod"});
    let mut object = deployment(d, 1, labels, "agnhost", AGNHOST_IMAGE);
    object["spec"]["revisionHistoryLimit"] = json!(0);
    create(&cx, &object).await?;
    let added = tokio::spawn(one_pod_is_added(watch));
    let gone = cx
        .eventually(
            Duration::from_secs(2),
            LONG,
            "no old ReplicaSets",
            || async {
                let found = cx.get(&path(&cx, d)).await?;
                let (new, old) = waits::replica_sets(&cx, &found).await?;
                // Before the controller looked at it, nothing is old either.
                Ok(new.is_some() && old.is_empty())
            },
        )
        .await;
    added.abort();
    match added.await {
        Ok(Err(error)) => return Err(error),
        Err(error) if error.is_panic() => bail!("the watch of the pods: {error}"),
        _ => {}
    }
    gone?;
    // Every ReplicaSet but the new one is gone.
    let sets = cx.items(&cx.group("apps/v1", "replicasets")).await?;
    ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
    Ok(())
}

/// At most one pod may be added, and it must be the Deployment's; ends only with a failure.
async fn one_pod_is_added(mut watch: Watch) -> Result<()> {
    let mut added = 0;
    loop {
        let (kind, seen) = watch.next(2 * LONG).await?;
        if kind != "ADDED" {
            continue;
        }
        added += 1;
        ensure!(added == 1, "a second pod: {seen}");
        ensure!(seen["spec"]["containers"][0]["name"] == "agnhost", "{seen}");
    }
}

/// The replicas that a ReplicaSet should have and has.
fn counts(set: &Value) -> (i64, i64) {
    (
        number(&set["spec"]["replicas"]),
        number(&set["status"]["replicas"]),
    )
}

async fn rollover(cx: Cx) -> Result<()> {
    const FAILING: &str = "gcr.io/google_samples/gb-redisslave:nonexistent";
    let labels = json!({"name": "rollover-pod", "pod": "agnhost"});
    let first = "test-rollover-controller";
    create_set(
        &cx,
        &replica_set(first, 1, labels, "agnhost", AGNHOST_IMAGE),
    )
    .await?;
    waits::pods_running(&cx, "name=rollover-pod", 1).await?;
    let first = cx.group("apps/v1", &format!("replicasets/{first}"));
    let ready = |o: &Value| number(&o["status"]["readyReplicas"]) == 1 && counts(o) == (1, 1);
    waits::object(&cx, &first, LONG, "ready", ready).await?;

    let d = "test-rollover-deployment";
    let labels = json!({"name": "rollover-pod"});
    let mut object = deployment(d, 1, labels, "redis-slave", FAILING);
    object["spec"]["minReadySeconds"] = json!(10);
    object["spec"]["strategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    create(&cx, &object).await?;
    let path = path(&cx, d);
    let begun = |o: &Value| number(&o["status"]["updatedReplicas"]) >= 1;
    waits::object(&cx, &path, LONG, "one updated", begun).await?;
    let seen = waits::observed(&cx, &path).await?;
    waits::revision(&cx, d, "1", FAILING).await?;
    let (failing, old) = waits::replica_sets(&cx, &seen).await?;
    let failing = failing.context("a new ReplicaSet")?;
    ensure!(old.len() == 1, "{} old ReplicaSets", old.len());
    for set in [&old[0], &failing] {
        let at = cx.group("apps/v1", &format!("replicasets/{}", name(set)));
        waits::object(&cx, &at, LONG, "one replica", |o| counts(o) == (1, 1)).await?;
    }

    cx.update(&path, |o| {
        let container = &mut o["spec"]["template"]["spec"]["containers"][0];
        container["name"] = json!("agnhost");
        container["image"] = json!(AGNHOST_IMAGE);
    })
    .await?;
    waits::observed(&cx, &path).await?;
    waits::revision(&cx, d, "2", AGNHOST_IMAGE).await?;
    stays_in_bounds(&cx, &path, 1, 0).await?;
    for old in [name(&old[0]), name(&failing)] {
        let at = cx.group("apps/v1", &format!("replicasets/{old}"));
        let set = cx.get(&at).await?;
        ensure!(counts(&set) == (0, 0), "{old} has {:?}", counts(&set));
    }
    Ok(())
}

/// Waits until a rollout is done; surge and unavailability must keep their bounds all the time.
async fn stays_in_bounds(cx: &Cx, path: &str, surge: i64, unavailable: i64) -> Result<()> {
    cx.eventually(Duration::from_secs(1), LONG, "complete", || async {
        let d = cx.get(path).await?;
        let wanted = number(&d["spec"]["replicas"]);
        let (new, old) = waits::replica_sets(cx, &d).await?;
        let total: i64 = new.iter().chain(&old).map(|rs| counts(rs).1).sum();
        ensure!(total <= wanted + surge, "{total} replicas in all");
        let available = number(&d["status"]["availableReplicas"]);
        ensure!(
            available >= wanted - unavailable,
            "{available} are available"
        );
        Ok(complete(&d))
    })
    .await
}

async fn scale(cx: Cx) -> Result<()> {
    let d = "test-new-deployment";
    let labels = json!({"name": "agnhost"});
    create(&cx, &deployment(d, 1, labels, "agnhost", AGNHOST_IMAGE)).await?;
    waits::revision(&cx, d, "1", AGNHOST_IMAGE).await?;
    waits::deployment_complete(&cx, d).await?;
    scale_subresource(&cx, &path(&cx, d)).await
}

async fn proportional(cx: Cx) -> Result<()> {
    let d = "webserver-deployment";
    let labels = json!({"name": "agnhost"});
    let mut object = deployment(d, 10, labels, "agnhost", AGNHOST_IMAGE);
    object["spec"]["strategy"] = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    create(&cx, &object).await?;
    let path = path(&cx, d);
    waits::observed(&cx, &path).await?;
    waits::pods_running(&cx, "name=agnhost", 10).await?;
    let done = waits::deployment_complete(&cx, d).await?;
    let first = waits::replica_sets(&cx, &done)
        .await?
        .0
        .context("a ReplicaSet")?;

    cx.update(&path, |o| image(o, "webserver:404")).await?;
    let seen = waits::observed(&cx, &path).await?;
    let set = async |which: &str,
                     within: Duration,
                     what: &str,
                     fits: &(dyn Fn(&Value) -> bool + Sync)| {
        let at = cx.group("apps/v1", &format!("replicasets/{which}"));
        waits::object(&cx, &at, within, what, fits).await
    };
    let available = |o: &Value| number(&o["status"]["availableReplicas"]);
    let eight = |o: &Value| available(o) == 8;
    set(name(&first), LONG, "8 available", &eight).await?;
    set(name(&first), MINUTE, "8", &|o| counts(o) == (8, 8)).await?;
    let second = waits::replica_sets(&cx, &seen).await?.0;
    let second = second.context("a second ReplicaSet")?;
    ensure!(available(&second) == 0, "{second}");
    set(name(&second), MINUTE, "5", &|o| counts(o) == (5, 5)).await?;
    let found = cx.get(&path).await?;
    ensure!(available(&found) >= 8, "{}", found["status"]);

    cx.update(&path, |o| o["spec"]["replicas"] = json!(30))
        .await?;
    waits::observed(&cx, &path).await?;
    set(name(&first), MINUTE, "20", &|o| counts(o).0 == 20).await?;
    set(name(&second), MINUTE, "13", &|o| counts(o).0 == 13).await?;
    Ok(())
}

/// Is a rollout at this many replicas, all ready, with this image?
fn at(o: &Value, replicas: i64, image: &str) -> bool {
    let count = |c: &str| number(&o["status"][c]);
    count("readyReplicas") == replicas
        && count("updatedReplicas") == replicas
        && count("unavailableReplicas") == 0
        && o["spec"]["template"]["spec"]["containers"][0]["image"] == image
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let selector = labelled("test-deployment-static=true");
    let everywhere = format!("/apis/apps/v1/deployments?{selector}");
    let since = version(&cx.get(&everywhere).await?)?;
    let labels = json!({"test-deployment-static": "true"});
    let mut object = deployment(
        "test-deployment",
        2,
        labels,
        "test-deployment",
        OLD_AGNHOST_IMAGE,
    );
    object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    let made = create(&cx, &object).await?;
    let path = path(&cx, "test-deployment");
    let all = cx.group("apps/v1", "deployments");
    let query = format!("{selector}&resourceVersion={since}");
    let mut watch = cx.watch(&all, &query).await?;
    let added = |kind: &str, _: &Value| kind == "ADDED";
    let modified = |kind: &str, _: &Value| kind == "MODIFIED";
    watch.until(FOREVER, "ADDED", added).await?;
    let two = |_: &str, o: &Value| number(&o["status"]["readyReplicas"]) == 2;
    watch.until(LONG, "2 ready", two).await?;

    let container = json!({"name": "test-deployment", "image": PAUSE_IMAGE});
    let patch = json!({"metadata": {"labels": {"test-deployment": "patched"}},
        "spec": {"replicas": 1, "template":
            {"spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > version(&made)?, "{patched}");
    watch.until(FOREVER, "MODIFIED", modified).await?;
    let fits = |_: &str, o: &Value| {
        at(o, 1, PAUSE_IMAGE) && o["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 2
    };
    watch.until(LONG, "the patched rollout", fits).await?;
    let found = cx.items(&everywhere).await?;
    ensure!(
        found.iter().any(|d| name(d) == "test-deployment"
            && d["metadata"]["labels"]["test-deployment"] == "patched"),
        "{found:?}"
    );

    object["metadata"]["labels"]["test-deployment"] = json!("updated");
    image(&mut object, AGNHOST_IMAGE);
    cx.ok(Method::PUT, &path, &object).await?;
    watch.until(FOREVER, "MODIFIED", modified).await?;
    let status = format!("{path}/status");
    let is_updated = |o: &Value| {
        o["metadata"]["labels"]["test-deployment"] == "updated"
            && o["spec"]["template"]["spec"]["containers"][0]["image"] == AGNHOST_IMAGE
    };
    let found = cx.get(&status).await?;
    ensure!(is_updated(&found), "{found}");
    let restored = |_: &str, o: &Value| at(o, 2, AGNHOST_IMAGE);
    watch.until(LONG, "the updated rollout", restored).await?;

    let patch = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    cx.patch(&status, "strategic-merge", &patch).await?;
    let none = |kind: &str, o: &Value| {
        let count = |c: &str| number(&o["status"][c]);
        kind == "MODIFIED" && count("readyReplicas") == 0 && count("availableReplicas") == 0
    };
    watch.until(FOREVER, "none ready", none).await?;
    let found = cx.get(&status).await?;
    ensure!(is_updated(&found), "{found}");
    watch.until(LONG, "the status restored", restored).await?;

    let collection = format!("{all}?{selector}");
    cx.ok(Method::DELETE, &collection, &grace(1)).await?;
    watch
        .until(MINUTE, "DELETED", |kind, _| kind == "DELETED")
        .await?;
    Ok(())
}

async fn status(cx: Cx) -> Result<()> {
    let d = format!("test-deployment-{}", random(5));
    let labels = json!({"name": "agnhost", "e2e": "testing"});
    let since = version(
        &cx.get("/apis/apps/v1/deployments?labelSelector=e2e%3Dtesting")
            .await?,
    )?;
    create(&cx, &deployment(&d, 1, labels, "agnhost", AGNHOST_IMAGE)).await?;
    waits::revision(&cx, &d, "1", AGNHOST_IMAGE).await?;
    waits::deployment_complete(&cx, &d).await?;
    let watched = (labelled("e2e=testing"), since);
    let nothing = json!({});
    status_endpoints(
        &cx,
        ("Deployment", "deployments"),
        &d,
        watched,
        LONG,
        nothing,
    )
    .await
}
