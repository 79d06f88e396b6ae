//! Twins of replica_set.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::{adopted, relabel, released, respond, scale_subresource, status_endpoints};
use crate::fixtures::{agnhost, grace, pod, replica_set, workload};
use crate::images::{AGNHOST_IMAGE, PAUSE_IMAGE};
use crate::rest::{Cx, labelled, random, version};
use crate::waits::{self, LONG, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
        "replicaset",
        serves
    ),
    twin!(
        "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods [Conformance]",
        "replicaset",
        adopts_and_releases
    ),
    twin!(
        "[sig-apps] ReplicaSet Replicaset should have a working scale subresource [Conformance]",
        "replicaset",
        scale
    ),
    twin!(
        "[sig-apps] ReplicaSet Replace and Patch tests [Conformance]",
        "replicaset",
        replace_and_patch
    ),
    twin!(
        "[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets [Conformance]",
        "replicaset",
        collection
    ),
    twin!(
        "[sig-apps] ReplicaSet should validate Replicaset Status endpoints [Conformance]",
        "replicaset",
        status
    ),
];

fn path(cx: &Cx, name: &str) -> String {
    cx.group("apps/v1", &format!("replicasets/{name}"))
}

async fn create(cx: &Cx, object: &Value) -> Result<Value> {
    let path = cx.group("apps/v1", "replicasets");
    cx.ok(Method::POST, &path, object).await
}

fn sample_labels() -> Value {
    json!({"name": "sample-pod", "pod": "agnhost"})
}

async fn serves(cx: Cx) -> Result<()> {
    let name = format!("my-hostname-basic-{}", uuid::Uuid::new_v4());
    let mut container = agnhost(&name, &["serve-hostname"]);
    container["ports"] = json!([{"containerPort": 9376}]);
    let labels = json!({"name": name});
    create(&cx, &workload("ReplicaSet", &name, 1, &labels, container)).await?;
    let selector = format!("name={name}");
    let pods = waits::pods_running(&cx, &selector, 1).await?;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    respond(&cx, &selector, &pods).await
}

async fn adopts_and_releases(cx: Cx) -> Result<()> {
    let n = "pod-adoption-release";
    let labels = json!({"name": n});
    let orphan = pod(n, labels.clone(), agnhost(n, &["pause"]));
    cx.ok(Method::POST, &cx.core("pods"), &orphan).await?;
    waits::running(&cx, n).await?;
    let set = create(&cx, &replica_set(n, 1, labels, n, AGNHOST_IMAGE)).await?;
    adopted(&cx, n, &set).await?;
    let pods = waits::pods_created(&cx, &format!("name={n}"), 1).await?;
    ensure!(pods.len() == 1, "{} pods", pods.len());
    let chosen = name(&pods[0]);
    relabel(&cx, chosen, json!({"name": "not-matching-name"})).await?;
    released(&cx, chosen, &set).await
}

async fn scale(cx: Cx) -> Result<()> {
    let set = replica_set("test-rs", 1, sample_labels(), "agnhost", AGNHOST_IMAGE);
    create(&cx, &set).await?;
    let path = path(&cx, "test-rs");
    let available = |o: &Value| number(&o["status"]["availableReplicas"]) == 1;
    waits::object(&cx, &path, LONG, "1 available", available).await?;
    scale_subresource(&cx, &path).await
}

async fn replace_and_patch(cx: Cx) -> Result<()> {
    let selector = labelled("test-rs=patched");
    let since = version(
        &cx.get(&format!("/apis/apps/v1/replicasets?{selector}"))
            .await?,
    )?;
    let set = replica_set("test-rs", 1, sample_labels(), "agnhost", AGNHOST_IMAGE);
    let made = create(&cx, &set).await?;
    version(&made)?;
    waits::pods_running(&cx, "name=sample-pod", 1).await?;
    let path = path(&cx, "test-rs");
    let scale = format!("{path}/scale");
    cx.update(&scale, |o| o["spec"]["replicas"] = json!(2))
        .await?;
    let found = cx.get(&path).await?;
    ensure!(found["spec"]["replicas"] == 2, "{found}");
    let container = json!({"name": "test-rs", "image": PAUSE_IMAGE});
    let patch = json!({"metadata": {"labels": {"test-rs": "patched"}}, "spec": {"replicas": 3,
        "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > version(&found)?, "{patched}");
    let query = format!("{selector}&resourceVersion={since}");
    let mut watch = cx
        .watch(&cx.group("apps/v1", "replicasets"), &query)
        .await?;
    let (kind, _) = watch.next(LONG).await?;
    ensure!(kind == "ADDED", "{kind}: the labels begin to match");
    drop(watch);
    let mut watch = cx
        .watch(&cx.group("apps/v1", "replicasets"), &query)
        .await?;
    let fits = |_: &str, o: &Value| {
        let spec = &o["spec"]["template"]["spec"];
        number(&o["status"]["readyReplicas"]) == 3
            && number(&o["status"]["availableReplicas"]) == 3
            && spec["containers"][0]["image"] == PAUSE_IMAGE
            && spec["terminationGracePeriodSeconds"] == 0
    };
    watch.until(LONG, "3 ready", fits).await?;
    Ok(())
}

async fn collection(cx: Cx) -> Result<()> {
    let value = random(5);
    let mut labels = sample_labels();
    labels["e2e"] = json!(value);
    create(
        &cx,
        &replica_set("test-rs", 3, labels, "agnhost", AGNHOST_IMAGE),
    )
    .await?;
    waits::pods_running(&cx, &format!("e2e={value}"), 3).await?;
    let selector = labelled(&format!("e2e={value}"));
    let everywhere = format!("/apis/apps/v1/replicasets?{selector}");
    ensure!(cx.items(&everywhere).await?.len() == 1, "one ReplicaSet");
    let collection = cx.group("apps/v1", &format!("replicasets?{selector}"));
    cx.ok(Method::DELETE, &collection, &grace(1)).await?;
    let left = cx.items(&everywhere).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn status(cx: Cx) -> Result<()> {
    let selector = labelled("name=sample-pod,pod=agnhost");
    let since = version(
        &cx.get(&format!("/apis/apps/v1/replicasets?{selector}"))
            .await?,
    )?;
    let set = replica_set("test-rs", 1, sample_labels(), "agnhost", AGNHOST_IMAGE);
    create(&cx, &set).await?;
    waits::pods_running(&cx, "name=sample-pod", 1).await?;
    let within = Duration::from_secs(120);
    status_endpoints(
        &cx,
        ("ReplicaSet", "replicasets"),
        "test-rs",
        (selector, since),
        within,
        json!({}),
    )
    .await
}
