//! Twins of disruption.go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use crate::connect::Answer;
use crate::fixtures::replica_set;
use crate::images::PAUSE_IMAGE;
use crate::rest::{Cx, POLL, labelled, version};
use crate::waits::{self, is_true, name, number};

pub const TWINS: &[Twin] = &[
    twin!(
        "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]",
        "disruption",
        collection
    ),
    twin!(
        "[sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]",
        "disruption",
        lifecycle
    ),
    twin!(
        "[sig-apps] DisruptionController should observe PodDisruptionBudget status updated [Conformance]",
        "disruption",
        status_is_kept
    ),
    twin!(
        "[sig-apps] DisruptionController should update/patch PodDisruptionBudget status [Conformance]",
        "disruption",
        status
    ),
    twin!(
        "[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it [Conformance]",
        "disruption",
        blocks
    ),
];

/// How long pods and budgets may take.
const SCHEDULING: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);
const FOO: &str = "foo";

fn all(cx: &Cx) -> String {
    cx.group("policy/v1", "poddisruptionbudgets")
}

fn path(cx: &Cx, name: &str) -> String {
    format!("{}/{name}", all(cx))
}

/// Waits until the controller has seen a budget's newest generation.
async fn processed(cx: &Cx, name: &str) -> Result<Value> {
    let seen = |o: &Value| {
        number(&o["status"]["observedGeneration"]) >= number(&o["metadata"]["generation"])
    };
    waits::object(cx, &path(cx, name), SCHEDULING, "observed", seen).await
}

/// Makes a budget for the pods labelled `foo=bar`.
async fn create(cx: &Cx, name: &str, min_available: Value, labels: Value) -> Result<()> {
    let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": {"foo": "bar"}}, "minAvailable": min_available}});
    cx.ok(Method::POST, &all(cx), &object).await?;
    processed(cx, name).await?;
    Ok(())
}

async fn remove(cx: &Cx, name: &str) -> Result<()> {
    cx.delete(&path(cx, name)).await?;
    cx.gone(&path(cx, name), SCHEDULING).await
}

/// Makes bare pods `pod-0` and so on.
async fn create_pods(cx: &Cx, n: usize) -> Result<()> {
    for i in 0..n {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod-{i}"), "labels": {"foo": "bar"}},
            "spec": {"restartPolicy": "Always",
                "containers": [{"name": "donothing", "image": PAUSE_IMAGE}]}});
        cx.ok(Method::POST, &cx.core("pods"), &pod).await?;
    }
    Ok(())
}

fn ready(pod: &Value) -> bool {
    is_true(pod, "Ready") && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Waits until at least this many pods are ready.
async fn pods_ready(cx: &Cx, n: usize) -> Result<()> {
    let what = format!("{n} pods are ready");
    cx.eventually(POLL, SCHEDULING, &what, || async {
        let pods = waits::pods(cx, "foo=bar").await?;
        Ok(pods.iter().filter(|p| ready(p)).count() >= n)
    })
    .await
}

/// A pod that is ready.
async fn some_ready(cx: &Cx) -> Result<String> {
    pods_ready(cx, 1).await?;
    let pods = cx.items(&cx.core("pods")).await?;
    let found = pods.iter().find(|p| ready(p)).context("no pod is ready")?;
    Ok(name(found).to_string())
}

async fn evict(cx: &Cx, pod: &str) -> Result<Answer> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": cx.namespace}});
    let path = cx.core(&format!("pods/{pod}/eviction"));
    let json = [("content-type", "application/json")];
    cx.raw(Method::POST, &path, &json, eviction.to_string())
        .await
}

async fn evicted(cx: &Cx, pod: &str) -> Result<()> {
    let answer = evict(cx, pod).await?;
    ensure!(matches!(answer.code, 200 | 201), "{answer:?}");
    Ok(())
}

/// The budget must be named as the cause.
async fn not_evicted(cx: &Cx, pod: &str) -> Result<()> {
    let answer = evict(cx, pod).await?;
    let status: Value = serde_json::from_str(&answer.text)?;
    let causes = status["details"]["causes"].as_array();
    let named = causes.is_some_and(|all| all.iter().any(|c| c["reason"] == "DisruptionBudget"));
    ensure!(answer.code == 429 && named, "{answer:?}");
    Ok(())
}

async fn names(cx: &Cx, path: &str) -> Result<BTreeSet<String>> {
    let found = cx.items(path).await?;
    let set: BTreeSet<String> = found.iter().map(|o| name(o).to_string()).collect();
    ensure!(set.len() == found.len(), "{found:?}");
    Ok(set)
}

async fn collection(cx: Cx) -> Result<()> {
    let other = cx.another("disruption-2", json!({})).await?;
    let labels = json!({"foo_pdb": "bar_pdb"});
    create(&cx, FOO, json!(2), labels.clone()).await?;
    create(&cx, "foo2", json!("1%"), labels.clone()).await?;
    create(&other, "foo3", json!(2), labels).await?;
    let selector = labelled("foo_pdb=bar_pdb");
    let everywhere = format!("/apis/policy/v1/poddisruptionbudgets?{selector}");
    let found = names(&cx, &everywhere).await?;
    let wanted = ["foo", "foo2", "foo3"].map(String::from);
    ensure!(found == BTreeSet::from(wanted), "{found:?}");
    let here = format!("{}?{selector}", all(&cx));
    let found = names(&cx, &here).await?;
    let wanted = ["foo", "foo2"].map(String::from);
    ensure!(found == BTreeSet::from(wanted), "{found:?}");
    cx.delete(&all(&cx)).await?;
    cx.eventually(POLL, SCHEDULING, "the budgets are gone", || async {
        Ok(cx.items(&all(&cx)).await?.is_empty())
    })
    .await
}

async fn lifecycle(cx: Cx) -> Result<()> {
    create(&cx, FOO, json!("1%"), json!({"foo": "bar"})).await?;
    let path = path(&cx, FOO);
    let updated = cx
        .update(&path, |o| o["spec"]["minAvailable"] = json!("2%"))
        .await?;
    processed(&cx, FOO).await?;
    ensure!(updated["spec"]["minAvailable"] == "2%", "{updated}");
    let before = version(&updated)?;
    let patch = json!({"spec": {"minAvailable": "3%"}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    processed(&cx, FOO).await?;
    ensure!(patched["spec"]["minAvailable"] == "3%", "{patched}");
    ensure!(version(&patched)? > before, "{patched}");
    remove(&cx, FOO).await
}

async fn status_is_kept(cx: Cx) -> Result<()> {
    create(&cx, FOO, json!(1), json!({"foo": "bar"})).await?;
    create_pods(&cx, 3).await?;
    pods_ready(&cx, 3).await?;
    let allowed = |o: &Value| number(&o["status"]["disruptionsAllowed"]) > 0;
    waits::object(&cx, &path(&cx, FOO), MINUTE, "disruptions allowed", allowed).await?;
    Ok(())
}

async fn status(cx: Cx) -> Result<()> {
    create(&cx, FOO, json!(1), json!({"foo": "bar"})).await?;
    create_pods(&cx, 1).await?;
    pods_ready(&cx, 1).await?;
    let pod = some_ready(&cx).await?;
    let status = format!("{}/status", path(&cx, FOO));
    let now = crate::certs::rfc3339(crate::certs::now()?)?;
    cx.update(&status, |o| {
        o["status"]["disruptedPods"] = json!({&pod: now});
    })
    .await?;
    processed(&cx, FOO).await?;
    let found = cx.get(&status).await?;
    ensure!(
        found["status"]["disruptedPods"][&pod].is_string(),
        "{found}"
    );
    let patch = json!({"status": {"disruptedPods": null}});
    let patched = cx.patch(&status, "merge", &patch).await?;
    let left = patched["status"]["disruptedPods"].as_object();
    ensure!(left.is_none_or(|all| all.is_empty()), "{patched}");
    processed(&cx, FOO).await?;
    Ok(())
}

async fn blocks(cx: Cx) -> Result<()> {
    create(&cx, FOO, json!(3), json!({"foo": "bar"})).await?;
    let mut set = replica_set("rs", 3, json!({"foo": "bar"}), "donothing", PAUSE_IMAGE);
    set["metadata"]["labels"] = json!({});
    cx.ok(Method::POST, &cx.group("apps/v1", "replicasets"), &set)
        .await?;
    pods_ready(&cx, 3).await?;
    let pod = some_ready(&cx).await?;
    not_evicted(&cx, &pod).await.context("with 3 of 3 needed")?;

    let path = path(&cx, FOO);
    cx.update(&path, |o| o["spec"]["minAvailable"] = json!(2))
        .await?;
    processed(&cx, FOO).await?;
    pods_ready(&cx, 3).await?;
    let healthy = |o: &Value| {
        number(&o["status"]["currentHealthy"]) == 3 && number(&o["status"]["desiredHealthy"]) == 2
    };
    let within = Duration::from_secs(30);
    waits::object(&cx, &path, within, "3 healthy, 2 desired", healthy).await?;
    evicted(&cx, &pod).await.context("with 2 of 3 needed")?;

    let patch = json!({"spec": {"minAvailable": null, "maxUnavailable": 0}});
    cx.patch(&path, "merge", &patch).await?;
    processed(&cx, FOO).await?;
    pods_ready(&cx, 3).await?;
    let pod = some_ready(&cx).await?;
    not_evicted(&cx, &pod).await.context("with none to spare")?;

    remove(&cx, FOO).await?;
    pods_ready(&cx, 3).await?;
    evicted(&cx, &pod).await.context("without a budget")
}
