//! Twins of rc.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::{adopted, relabel, released, respond};
use crate::fixtures::{agnhost, pod, replication_controller};
use crate::images::{AGNHOST_IMAGE, NGINX_IMAGE};
use crate::rest::{Cx, labelled, random, version};
use crate::waits::{self, LONG, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] ReplicationController should serve a basic image on each replica with a public image [Conformance]",
        "replication-controller",
        serves
    ),
    twin!(
        "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota [Conformance]",
        "replication-controller",
        failure_condition
    ),
    twin!(
        "[sig-apps] ReplicationController should adopt matching pods on creation [Conformance]",
        "replication-controller",
        adopts
    ),
    twin!(
        "[sig-apps] ReplicationController should release no longer matching pods [Conformance]",
        "replication-controller",
        releases
    ),
    twin!(
        "[sig-apps] ReplicationController should test the lifecycle of a ReplicationController [Conformance]",
        "replication-controller",
        lifecycle
    ),
    twin!(
        "[sig-apps] ReplicationController should get and update a ReplicationController scale [Conformance]",
        "replication-controller",
        scale
    ),
];

const MINUTE: Duration = Duration::from_secs(60);

fn path(cx: &Cx, name: &str) -> String {
    cx.core(&format!("replicationcontrollers/{name}"))
}

async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    cx.ok(Method::POST, &cx.core("replicationcontrollers"), object)
        .await
}

async fn serves(cx: Cx) -> Result<()> {
    let name = format!("my-hostname-basic-{}", uuid::Uuid::new_v4());
    let mut container = agnhost(&name, &["serve-hostname"]);
    container["ports"] = json!([{"containerPort": 9376}]);
    create(
        &cx,
        &replication_controller(&name, 1, json!({"name": name}), container),
    )
    .await?;
    let selector = format!("name={name}");
    let pods = waits::pods_running(&cx, &selector, 1).await?;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    waits::ready(&cx, waits::name(&pods[0])).await?;
    respond(&cx, &selector, &pods).await
}

async fn failure_condition(cx: Cx) -> Result<()> {
    let n = "condition-test";
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": n},
        "spec": {"hard": {"pods": "2"}}});
    cx.ok(Method::POST, &cx.core("resourcequotas"), &quota)
        .await?;
    let at = cx.core(&format!("resourcequotas/{n}"));
    let hard = |o: &Value| o["status"]["hard"]["pods"] == "2";
    waits::object(&cx, &at, MINUTE, "2 pods", hard).await?;
    let container = json!({"name": n, "image": AGNHOST_IMAGE});
    create(
        &cx,
        &replication_controller(n, 3, json!({"name": n}), container),
    )
    .await?;
    let path = path(&cx, n);
    let observed = |o: &Value| {
        number(&o["status"]["observedGeneration"]) >= number(&o["metadata"]["generation"])
    };
    let failing = |o: &Value| observed(o) && waits::condition(o, "ReplicaFailure").is_some();
    waits::object(&cx, &path, MINUTE, "ReplicaFailure", failing).await?;
    cx.update(&path, |o| o["spec"]["replicas"] = json!(2))
        .await?;
    let fine = |o: &Value| observed(o) && waits::condition(o, "ReplicaFailure").is_none();
    waits::object(&cx, &path, MINUTE, "no ReplicaFailure", fine).await?;
    Ok(())
}

async fn adopts(cx: Cx) -> Result<()> {
    let n = "pod-adoption";
    let orphan = pod(n, json!({"name": n}), agnhost(n, &["pause"]));
    cx.ok(Method::POST, &cx.core("pods"), &orphan).await?;
    waits::running(&cx, n).await?;
    let container = json!({"name": n, "image": AGNHOST_IMAGE});
    let made = create(
        &cx,
        &replication_controller(n, 1, json!({"name": n}), container),
    )
    .await?;
    ensure!(made["spec"]["selector"]["name"] == n, "{made}");
    adopted(&cx, n, &made).await
}

async fn releases(cx: Cx) -> Result<()> {
    let n = "pod-release";
    let container = json!({"name": n, "image": AGNHOST_IMAGE});
    let made = create(
        &cx,
        &replication_controller(n, 1, json!({"name": n}), container),
    )
    .await?;
    let pods = waits::pods_created(&cx, &format!("name={n}"), 1).await?;
    ensure!(
        waits::controller(&pods[0]).is_some(),
        "{}",
        pods[0]["metadata"]
    );
    relabel(&cx, name(&pods[0]), json!({"name": "not-matching-name"})).await?;
    released(&cx, name(&pods[0]), &made).await
}

async fn lifecycle(cx: Cx) -> Result<()> {
    let all = cx.core("replicationcontrollers");
    let path = path(&cx, "rc-test");
    let since = version(&cx.get(&all).await?)?;
    let mut watch = cx.watch(&all, &format!("resourceVersion={since}")).await?;
    let container = json!({"name": "rc-test", "image": NGINX_IMAGE});
    let labels = json!({"test-rc-static": "true"});
    let mut object = replication_controller("rc-test", 1, labels.clone(), container);
    object["metadata"]["labels"] = labels.clone();
    object["spec"]["selector"] = labels;
    let made = create(&cx, &object).await?;
    version(&made)?;
    watch
        .until(MINUTE, "ADDED", |kind, _| kind == "ADDED")
        .await?;
    let count = |o: &Value, c: &str| number(&o["status"][c]);
    let modified = |kind: &str, _: &Value| kind == "MODIFIED";
    let one = |_: &str, o: &Value| count(o, "replicas") == 1 && count(o, "readyReplicas") == 1;
    watch.until(LONG, "1 ready", one).await?;

    let before = cx.get(&path).await?;
    let patch = json!({"metadata": {"labels": {"test-rc": "patched"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(
        patched["metadata"]["labels"]["test-rc"] == "patched",
        "{patched}"
    );
    ensure!(version(&patched)? > version(&before)?, "{patched}");
    watch.until(MINUTE, "MODIFIED", modified).await?;

    let status = format!("{path}/status");
    let patch = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    let patched = cx.patch(&status, "strategic-merge", &patch).await?;
    ensure!(count(&patched, "readyReplicas") == 0, "{patched}");
    watch.until(MINUTE, "MODIFIED", modified).await?;
    watch
        .until(MINUTE, "1 replica", |_, o| count(o, "replicas") == 1)
        .await?;
    let found = cx.get(&status).await?;
    ensure!(count(&found, "replicas") == 1, "{found}");

    let patch = json!({"spec": {"replicas": 2}});
    cx.patch(&format!("{path}/scale"), "strategic-merge", &patch)
        .await?;
    watch.until(MINUTE, "MODIFIED", modified).await?;
    let two = |_: &str, o: &Value| count(o, "replicas") == 2 && count(o, "readyReplicas") == 2;
    watch.until(LONG, "2 ready", two).await?;

    let mut found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["labels"]["test-rc"] == "patched",
        "{found}"
    );
    found["status"]["availableReplicas"] = json!(1);
    found["status"]["readyReplicas"] = json!(1);
    cx.ok(Method::PUT, &status, &found).await?;
    watch.until(MINUTE, "MODIFIED", modified).await?;

    let selector = labelled("test-rc-static=true");
    let listed = cx
        .items(&format!("/api/v1/replicationcontrollers?{selector}"))
        .await?;
    let here = |o: &Value| {
        let labels = &o["metadata"]["labels"];
        name(o) == "rc-test" && labels["test-rc-static"] == "true" && labels["test-rc"] == "patched"
    };
    ensure!(listed.iter().any(here), "{listed:?}");
    cx.delete(&format!("{all}?{selector}")).await?;
    watch
        .until(MINUTE, "DELETED", |kind, _| kind == "DELETED")
        .await?;
    Ok(())
}

async fn scale(cx: Cx) -> Result<()> {
    let n = format!("e2e-rc-{}", random(5));
    let container = json!({"name": n, "image": AGNHOST_IMAGE});
    create(
        &cx,
        &replication_controller(&n, 1, json!({"name": n}), container),
    )
    .await?;
    let path = path(&cx, &n);
    let replicas = |n: i64| move |o: &Value| number(&o["status"]["replicas"]) == n;
    waits::object(&cx, &path, MINUTE, "1 replica", replicas(1)).await?;
    let scale = format!("{path}/scale");
    let mut found = cx.get(&scale).await?;
    ensure!(number(&found["status"]["replicas"]) == 1, "{found}");
    found["metadata"]["resourceVersion"] = json!("");
    found["spec"]["replicas"] = json!(2);
    let answer = cx.ok(Method::PUT, &scale, &found).await?;
    ensure!(answer["spec"]["replicas"] == 2, "{answer}");
    waits::object(&cx, &path, MINUTE, "2 replicas", replicas(2)).await?;
    Ok(())
}
