//! Twins of [sig-api-machinery].

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use rand::Rng;
use serde_json::{Value, json};

use super::Twin;
use crate::rest::{Cx, Watch, version};

pub mod aggregator;
pub mod chunking;
pub mod conversion;
pub mod custom_resources;
pub mod discovery;
pub mod field_validation;
pub mod garbage_collector;
pub mod namespaces;
pub mod operations;
pub mod policies;
pub mod publish_openapi;
pub mod resource_quota;
pub mod webhook;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-api-machinery] server version should find the server version [Conformance]",
        base: "server-version",
        run: |cx| Box::pin(server_version(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]",
        base: "discovery",
        run: |cx| Box::pin(preferred_version(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]",
        base: "watch",
        run: |cx| Box::pin(watch_notifications(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]",
        base: "watch",
        run: |cx| Box::pin(watch_from_version(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]",
        base: "watch",
        run: |cx| Box::pin(watch_restart(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]",
        base: "watch",
        run: |cx| Box::pin(watch_selector(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]",
        base: "watch",
        run: |cx| Box::pin(watch_order(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Namespaces should patch a Namespace [Conformance] [Serial]",
        base: "namespaces",
        run: |cx| Box::pin(namespace_patch(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Namespaces should apply an update to a Namespace [Conformance] [Serial]",
        base: "namespaces",
        run: |cx| Box::pin(namespace_update(cx)),
    },
    Twin {
        name: "[sig-api-machinery] Namespaces should apply changes to a namespace status [Conformance] [Serial]",
        base: "namespaces",
        run: |cx| Box::pin(namespace_status(cx)),
    },
];

async fn server_version(cx: Cx) -> Result<()> {
    let found = cx.get("/version").await?;
    let major = found["major"].as_str().unwrap_or("");
    let first: String = major
        .chars()
        .find(|c| ('1'..='9').contains(c))
        .into_iter()
        .collect();
    ensure!(!first.is_empty() && first == major, "major is {major:?}");
    let minor = found["minor"].as_str().unwrap_or("");
    let all: String = minor.chars().filter(char::is_ascii_digit).collect();
    let run: String = minor
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    ensure!(!run.is_empty() && run == all, "minor is {minor:?}");
    Ok(())
}

async fn preferred_version(cx: Cx) -> Result<()> {
    let list = cx.get("/apis/").await?;
    ensure!(list["kind"] == "APIGroupList", "{list}");
    let groups = list["groups"].as_array().cloned().unwrap_or_default();
    ensure!(!groups.is_empty(), "no groups");
    for g in groups {
        let name = g["name"].as_str().unwrap_or("");
        if name.ends_with(".example.com") {
            continue;
        }
        let group = cx.get(&format!("/apis/{name}/")).await?;
        ensure!(group["kind"] == "APIGroup", "{group}");
        let versions = group["versions"].as_array().cloned().unwrap_or_default();
        ensure!(!versions.is_empty(), "{name} has no versions");
        let preferred = &group["preferredVersion"]["groupVersion"];
        let known = versions.iter().any(|v| &v["groupVersion"] == preferred);
        ensure!(
            preferred.is_string() && known,
            "{name}: {preferred} is not among its versions"
        );
    }
    Ok(())
}

const LABEL: &str = "watch-this-configmap";

fn config_map(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {LABEL: label}}})
}

async fn watch(cx: &Cx, values: &str, rest: &str) -> Result<Watch> {
    let selector = format!("labelSelector={LABEL}%20in%20({values}){rest}");
    cx.watch(&cx.core("configmaps"), &selector).await
}

async fn mutate(cx: &Cx, name: &str, value: u32) -> Result<Value> {
    let path = cx.core(&format!("configmaps/{name}"));
    cx.update(&path, |o| o["data"]["mutation"] = json!(value.to_string()))
        .await
}

async fn watch_notifications(cx: Cx) -> Result<()> {
    let (a, b) = ("multiple-watchers-A", "multiple-watchers-B");
    let mut only_a = watch(&cx, a, "").await?;
    let mut only_b = watch(&cx, b, "").await?;
    let mut both = watch(&cx, &format!("{a},{b}"), "").await?;
    let name = "e2e-watch-test-configmap-a";
    let maps = cx.core("configmaps");
    let made = cx.ok(Method::POST, &maps, &config_map(name, a)).await?;
    for w in [&mut only_a, &mut both] {
        w.expect("ADDED", Some(&made)).await?;
    }
    for i in [1, 2] {
        let changed = mutate(&cx, name, i).await?;
        for w in [&mut only_a, &mut both] {
            w.expect("MODIFIED", Some(&changed)).await?;
        }
    }
    cx.delete(&format!("{maps}/{name}")).await?;
    for w in [&mut only_a, &mut both] {
        w.expect("DELETED", None).await?;
    }
    only_b.expect_none().await?;
    let name = "e2e-watch-test-configmap-b";
    let made = cx.ok(Method::POST, &maps, &config_map(name, b)).await?;
    for w in [&mut only_b, &mut both] {
        w.expect("ADDED", Some(&made)).await?;
    }
    only_a.expect_none().await?;
    cx.delete(&format!("{maps}/{name}")).await?;
    for w in [&mut only_b, &mut both] {
        w.expect("DELETED", None).await?;
    }
    only_a.expect_none().await
}

async fn watch_from_version(cx: Cx) -> Result<()> {
    let (name, label) = ("e2e-watch-test-resource-version", "from-resource-version");
    let maps = cx.core("configmaps");
    cx.ok(Method::POST, &maps, &config_map(name, label)).await?;
    let first = mutate(&cx, name, 1).await?;
    let second = mutate(&cx, name, 2).await?;
    cx.delete(&format!("{maps}/{name}")).await?;
    let rest = format!("&resourceVersion={}", version(&first)?);
    let mut w = watch(&cx, label, &rest).await?;
    w.expect("MODIFIED", Some(&second)).await?;
    w.expect("DELETED", None).await?;
    Ok(())
}

async fn watch_restart(cx: Cx) -> Result<()> {
    let (name, label) = ("e2e-watch-test-watch-closed", "watch-closed-and-restarted");
    let maps = cx.core("configmaps");
    let mut w = watch(&cx, label, "").await?;
    let made = cx.ok(Method::POST, &maps, &config_map(name, label)).await?;
    let first = mutate(&cx, name, 1).await?;
    w.expect("ADDED", Some(&made)).await?;
    let seen = w.expect("MODIFIED", Some(&first)).await?;
    drop(w);
    let second = mutate(&cx, name, 2).await?;
    let rest = format!("&resourceVersion={}", version(&seen)?);
    let mut w = watch(&cx, label, &rest).await?;
    cx.delete(&format!("{maps}/{name}")).await?;
    w.expect("MODIFIED", Some(&second)).await?;
    w.expect("DELETED", None).await?;
    Ok(())
}

async fn watch_selector(cx: Cx) -> Result<()> {
    let (name, label) = ("e2e-watch-test-label-changed", "label-changed-and-restored");
    let maps = cx.core("configmaps");
    let path = format!("{maps}/{name}");
    let mut w = watch(&cx, label, "").await?;
    let made = cx.ok(Method::POST, &maps, &config_map(name, label)).await?;
    let first = mutate(&cx, name, 1).await?;
    let relabel = async |value: &str| {
        cx.update(&path, |o| o["metadata"]["labels"][LABEL] = json!(value))
            .await
    };
    relabel("wrong-value").await?;
    w.expect("ADDED", Some(&made)).await?;
    w.expect("MODIFIED", Some(&first)).await?;
    w.expect("DELETED", None).await?;
    mutate(&cx, name, 2).await?;
    w.expect_none().await?;
    let restored = relabel(label).await?;
    let third = mutate(&cx, name, 3).await?;
    cx.delete(&path).await?;
    w.expect("ADDED", Some(&restored)).await?;
    w.expect("MODIFIED", Some(&third)).await?;
    w.expect("DELETED", None).await?;
    Ok(())
}

/// Creates, updates and deletes at random until it is told to end; every write must succeed.
async fn write_at_random(cx: Cx, mut end: tokio::sync::oneshot::Receiver<()>) -> Result<()> {
    let maps = cx.core("configmaps");
    let (mut next, mut there) = (0u32, Vec::new());
    while end.try_recv().is_err() {
        let choice = if there.is_empty() {
            0
        } else {
            rand::rng().random_range(0..3)
        };
        match choice {
            0 => {
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("cm-{next}")}});
                cx.ok(Method::POST, &maps, &object).await?;
                there.push(next);
            }
            1 => {
                let i = there[rand::rng().random_range(0..there.len())];
                let name = format!("cm-{i}");
                let labels = json!({"mutated": next.to_string()});
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}});
                cx.ok(Method::PUT, &format!("{maps}/{name}"), &object)
                    .await?;
            }
            _ => {
                let i = there.swap_remove(rand::rng().random_range(0..there.len()));
                cx.delete(&format!("{maps}/cm-{i}")).await?;
            }
        }
        next += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn watch_order(cx: Cx) -> Result<()> {
    const ROUNDS: usize = 100;
    let within = Duration::from_secs(10);
    let maps = cx.core("configmaps");
    let mut current = version(&cx.get(&maps).await?)?;
    let (stop, end) = tokio::sync::oneshot::channel();
    let writer = tokio::spawn(write_at_random(cx.clone(), end));
    let mut watches: Vec<Watch> = Vec::new();
    for _ in 0..ROUNDS {
        let query = format!("resourceVersion={current}");
        watches.push(cx.watch(&maps, &query).await?);
        let mut seen = Vec::new();
        for w in &mut watches {
            let (_, object) = w.next(within).await?;
            seen.push(version(&object)?);
        }
        current = seen[0];
        ensure!(
            seen.iter().all(|v| *v == current),
            "watches disagree: {seen:?}"
        );
    }
    ensure!(stop.send(()).is_ok(), "the writer ended early");
    writer.await?
}

async fn namespace_patch(cx: Cx) -> Result<()> {
    let name = format!("nspatchtest-{}-1", uuid::Uuid::new_v4());
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let made = cx.ok(Method::POST, "/api/v1/namespaces", &object).await?;
    let path = format!("/api/v1/namespaces/{name}");
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(
        version(&patched)? > version(&made)?,
        "the version did not grow: {patched}"
    );
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["labels"]["testLabel"] == "testValue",
        "{found}"
    );
    Ok(())
}

async fn namespace_update(cx: Cx) -> Result<()> {
    let ns = cx.namespace.clone();
    let path = format!("/api/v1/namespaces/{ns}");
    let before = cx.get(&path).await?;
    let updated = cx
        .update(&path, |o| o["metadata"]["labels"][&ns] = json!("updated"))
        .await?;
    ensure!(updated["metadata"]["labels"][&ns] == "updated", "{updated}");
    for (key, value) in before["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
    {
        ensure!(
            &updated["metadata"]["labels"][key] == value,
            "label {key} is gone: {updated}"
        );
    }
    Ok(())
}

async fn namespace_status(cx: Cx) -> Result<()> {
    let ns = &cx.namespace;
    let path = format!("/api/v1/namespaces/{ns}/status");
    let found = cx.get(&path).await?;
    ensure!(found["status"]["phase"] == "Active", "{found}");
    let condition = json!({"type": "StatusPatch", "status": "True", "reason": "E2E",
        "message": "Patched by an e2e test", "lastTransitionTime": null});
    let patch = json!({"metadata": {"annotations": {"e2e-patched-ns-status": ns}},
        "status": {"conditions": [condition]}});
    let patched = cx.patch(&path, "merge", &patch).await?;
    ensure!(
        patched["metadata"]["annotations"]["e2e-patched-ns-status"] == json!(ns),
        "{patched}"
    );
    let last = |o: &Value| {
        o["status"]["conditions"]
            .as_array()
            .and_then(|c| c.last())
            .cloned()
    };
    let c = last(&patched).unwrap_or_default();
    ensure!(
        c["reason"] == "E2E" && c["message"] == "Patched by an e2e test",
        "{patched}"
    );
    let updated = cx
        .update(&path, |o| {
            if let Some(list) = o["status"]["conditions"].as_array_mut() {
                list.push(
                    json!({"type": "StatusUpdate", "status": "True", "reason": "E2E",
                    "message": "Updated by an e2e test"}),
                );
            }
        })
        .await?;
    let c = last(&updated).unwrap_or_default();
    ensure!(
        c["type"] == "StatusUpdate" && c["status"] == "True",
        "{updated}"
    );
    ensure!(
        c["reason"] == "E2E" && c["message"] == "Updated by an e2e test",
        "{updated}"
    );
    Ok(())
}
