//! The sequence of upstream's tests named "should support … API operations": discovery, create, get, list,
//! watch, patch, update, status, delete, delete collection.

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Cx, FOREVER, Watch, labelled, random, version};

/// A kind and what a test does to its objects.
pub struct Operations<'a> {
    /// Group and version, such as `flowcontrol.apiserver.k8s.io/v1`.
    pub group: &'a str,
    pub plural: &'a str,
    pub kind: &'a str,
    /// What discovery must list.
    pub resources: &'a [&'a str],
    pub generate_name: &'a str,
    /// Key of the label that the objects get.
    pub label: &'a str,
    pub spec: Value,
    /// What the merge patch changes in the spec.
    pub patch: Value,
    /// What the update changes in the spec.
    pub update: Value,
    /// The condition that is patched into the status, where the kind has one.
    pub condition: Option<Value>,
}

/// Has `found` all that `wanted` has?
pub fn contains(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(all) => all.iter().all(|(k, v)| contains(&found[k], v)),
        other => found == other,
    }
}

/// Sets in `object` all that `change` has; null removes.
pub fn merge(object: &mut Value, change: &Value) {
    let Value::Object(all) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in all {
        merge(&mut object[key], value);
    }
}

/// Do the discovery documents list the group, its version and the resources?
pub async fn discovered(cx: &Cx, group_version: &str, resources: &[&str]) -> Result<()> {
    let (group, v) = group_version.split_once('/').context("a group")?;
    let has = |g: &Value| {
        let versions = g["versions"].as_array();
        let is = |e: &Value| e["version"] == v && e["groupVersion"] == group_version;
        g["name"] == group && versions.is_some_and(|all| all.iter().any(is))
    };
    let all = cx.get("/apis").await?;
    let groups = all["groups"].as_array();
    ensure!(
        groups.is_some_and(|g| g.iter().any(has)),
        "/apis lacks {group_version}"
    );
    let one = cx.get(&format!("/apis/{group}")).await?;
    ensure!(has(&one), "/apis/{group}: {one}");
    let list = cx.get(&format!("/apis/{group_version}")).await?;
    ensure!(list["groupVersion"] == group_version, "{list}");
    for resource in resources {
        let listed = list["resources"].as_array();
        ensure!(
            listed.is_some_and(|all| all.iter().any(|r| r["name"] == *resource)),
            "{group_version} lacks {resource}"
        );
    }
    Ok(())
}

/// Reads events, all MODIFIED, until one has the annotation `patched=true`.
pub async fn sees_patched(watch: &mut Watch) -> Result<Value> {
    loop {
        let (kind, seen) = watch.next(FOREVER).await?;
        ensure!(kind == "MODIFIED", "{kind} {seen}");
        if seen["metadata"]["annotations"]["patched"] == "true" {
            return Ok(seen);
        }
    }
}

impl Operations<'_> {
    /// Runs the sequence.
    pub async fn run(&self, cx: &Cx) -> Result<()> {
        let all = format!("/apis/{}/{}", self.group, self.plural);
        discovered(cx, self.group, self.resources).await?;
        let value = random(8);
        let selector = labelled(&format!("{}={value}", self.label));
        let object = json!({"apiVersion": self.group, "kind": self.kind, "spec": self.spec,
            "metadata": {"generateName": self.generate_name, "labels": {self.label: value}}});
        let mut made = Value::Null;
        for _ in 0..3 {
            made = cx.ok(Method::POST, &all, &object).await?;
            cx.clean(format!("{all}/{}", crate::waits::name(&made)));
        }
        let path = format!("{all}/{}", crate::waits::name(&made));
        let found = cx.get(&path).await?;
        ensure!(
            found["metadata"]["uid"] == made["metadata"]["uid"] && version(&found)? > 0,
            "{found}"
        );
        let listed = format!("{all}?{selector}");
        let list = cx.get(&listed).await?;
        ensure!(list["items"].as_array().map(Vec::len) == Some(3), "{list}");
        let since = format!("{selector}&resourceVersion={}", version(&list)?);
        let mut watch = cx.watch(&all, &since).await?;

        let body = json!({"metadata": {"annotations": {"patched": "true"}}, "spec": self.patch});
        let patched = cx.patch(&path, "merge", &body).await?;
        ensure!(contains(&patched, &body), "{patched} lacks {body}");
        ensure!(version(&patched)? > version(&found)?, "{patched}");
        let change = json!({"metadata": {"annotations": {"updated": "true"}}, "spec": self.update});
        let updated = cx.update(&path, |o| merge(o, &change)).await?;
        ensure!(contains(&updated, &change), "{updated} lacks {change}");
        sees_patched(&mut watch).await?;
        if let Some(condition) = &self.condition {
            self.status(cx, &path, &made, condition).await?;
        }

        cx.delete(&path).await?;
        ensure!(!cx.exists(&path).await?, "{path} is still there");
        let left = cx.items(&listed).await?;
        ensure!(left.len() == 2, "{left:?}");
        cx.delete(&listed).await?;
        let left = cx.items(&listed).await?;
        ensure!(left.is_empty(), "{left:?}");
        cx.delete(&listed).await?;
        Ok(())
    }

    async fn status(&self, cx: &Cx, path: &str, made: &Value, patch: &Value) -> Result<()> {
        let status = format!("{path}/status");
        let found = cx.get(&status).await?;
        ensure!(
            found["kind"] == self.kind && found["apiVersion"] == self.group,
            "{found}"
        );
        ensure!(
            found["metadata"]["uid"] == made["metadata"]["uid"],
            "{found}"
        );
        let has = |o: &Value, wanted: &Value| {
            let all = o["status"]["conditions"].as_array();
            all.is_some_and(|all| all.iter().any(|c| contains(c, wanted)))
        };
        let body = json!({"status": {"conditions": [patch]}});
        let patched = cx.patch(&status, "merge", &body).await?;
        ensure!(has(&patched, patch), "{patched} lacks {patch}");
        let further = json!({"type": "StatusUpdateFailed", "status": "False", "reason": "E2E",
            "message": "Set from an e2e test",
            "lastTransitionTime": crate::certs::rfc3339(crate::certs::now()?)?});
        let updated = cx
            .update(&status, |o| {
                if let Some(all) = o["status"]["conditions"].as_array_mut() {
                    all.push(further.clone());
                }
            })
            .await?;
        ensure!(has(&updated, &further), "{updated} lacks {further}");
        ensure!(updated["spec"] == patched["spec"], "{updated}");
        Ok(())
    }
}
