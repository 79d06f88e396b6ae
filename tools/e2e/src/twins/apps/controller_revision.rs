//! Twins of controller_revision.go.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::super::Twin;
use super::daemon_set::{self, HASH, RETRY, around, daemon_set, everywhere, status_ok};
use crate::rest::{Cx, labelled, random, version};
use crate::waits::{self, name};

pub const TWINS: &[Twin] = &[twin!(
    "[sig-apps] ControllerRevision should manage the lifecycle of a ControllerRevision [Conformance] [Serial]",
    "controllerrevisions",
    lifecycle
)];

const MINUTE: Duration = Duration::from_secs(60);

fn all(cx: &Cx) -> String {
    cx.group("apps/v1", "controllerrevisions")
}

/// Waits until a list has so many revisions.
async fn count(cx: &Cx, selector: &str, n: usize) -> Result<()> {
    let path = format!("{}?{selector}", all(cx));
    cx.eventually(RETRY, MINUTE, &format!("{n} revisions"), || async {
        Ok(cx.items(&path).await?.len() == n)
    })
    .await
}

/// The name and the hash that the controller gives the revision of a DaemonSet: it makes one elsewhere.
async fn named_by_controller(cx: &Cx, set: &Value, selector: &str) -> Result<(String, Value)> {
    let other = cx.another("controllerrevisions", json!({})).await?;
    daemon_set::create(&other, set).await?;
    count(&other, selector, 1).await?;
    let found = other.items(&all(&other)).await?;
    let (made, hash) = (
        name(&found[0]).to_string(),
        &found[0]["metadata"]["labels"][HASH],
    );
    let path = daemon_set::path(&other, name(set));
    let pods = format!("daemonset-name={}", name(set));
    waits::deleted_with_pods(&other, &path, &pods).await?;
    Ok((made, hash.clone()))
}

async fn lifecycle(cx: Cx) -> Result<()> {
    around(&cx, revisions(&cx)).await
}

async fn revisions(cx: &Cx) -> Result<()> {
    let n = format!("e2e-{}-daemon-set", random(5));
    let selector = labelled(&format!("daemonset-name={n}"));
    let object = daemon_set(&n, &json!({"daemonset-name": n}));
    let set = daemon_set::create(cx, &object).await?;
    everywhere(cx, &set).await?;
    status_ok(cx, &n).await?;
    let found = cx
        .items(&format!("/apis/apps/v1/daemonsets?{selector}"))
        .await?;
    ensure!(found.len() == 1, "{found:?}");
    let found = cx
        .items(&format!("/apis/apps/v1/controllerrevisions?{selector}"))
        .await?;
    ensure!(found.len() == 1, "{found:?}");
    let owner = &found[0]["metadata"]["ownerReferences"][0];
    let uid = &set["metadata"]["uid"];
    ensure!(
        owner["kind"] == "DaemonSet" && &owner["uid"] == uid,
        "{owner}"
    );
    let first = format!("{}/{}", all(cx), name(&found[0]));
    let initial = cx.get(&first).await?;

    let label = |o: &Value| o["metadata"]["labels"][name(o)].clone();
    let patch = json!({"metadata": {"labels": {name(&initial): "patched"}}});
    let patched = cx.patch(&first, "strategic-merge", &patch).await?;
    ensure!(label(&patched) == "patched", "{patched}");
    ensure!(version(&patched)? > version(&found[0])?, "{patched}");

    let mut changed = object.clone();
    changed["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(1);
    let (made, hash) = named_by_controller(cx, &changed, &selector).await?;
    ensure!(made != name(&initial), "{made} is the first one's name");
    let number = initial["revision"].as_i64().unwrap_or_default();
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": n, "uid": uid,
        "controller": true, "blockOwnerDeletion": true});
    let by_hand = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {"name": made, "labels": {"daemonset-name": n, HASH: hash},
            "annotations": set["metadata"]["annotations"], "ownerReferences": [owner]},
        "data": initial["data"], "revision": number + 1});
    cx.ok(Method::POST, &all(cx), &by_hand).await?;
    count(cx, &selector, 2).await?;
    cx.delete(&first).await?;
    count(cx, &selector, 1).await?;

    let current = cx.items(&all(cx)).await?.remove(0);
    let path = format!("{}/{}", all(cx), name(&current));
    let updated = cx
        .update(&path, |o| {
            o["metadata"]["labels"][name(&current)] = json!("updated");
        })
        .await?;
    ensure!(label(&updated) == "updated", "{updated}");

    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}},
        "updateStrategy": {"type": "RollingUpdate"}});
    cx.patch(&daemon_set::path(cx, &n), "strategic-merge", &patch)
        .await?;
    count(cx, &selector, 2).await?;
    let of_label = labelled(&format!("{}=updated", name(&updated)));
    cx.delete(&format!("{}?{of_label}", all(cx))).await?;
    count(cx, &selector, 1).await?;
    let left = cx.items(&all(cx)).await?;
    ensure!(left[0]["revision"] == 3, "{left:?}");
    Ok(())
}
