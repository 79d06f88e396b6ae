//! Objects of [sig-node] that need only the API, or little more: templates, leases, runtime classes, nodes, taints.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::pods::{self, AGNHOST, BUSYBOX, NGINX, PAUSE, uuid};
use crate::rest::{Cx, POLL, version};

fn items(list: &Value) -> usize {
    list["items"].as_array().map_or(0, Vec::len)
}

fn five() -> String {
    uuid().chars().take(5).collect()
}

// === PodTemplates ===

fn template(name: &str, labels: Value, container: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name, "labels": labels},
        "template": {"spec": {"containers": [{"name": container, "image": image}]}}})
}

pub async fn template_lifecycle(cx: Cx) -> Result<()> {
    let everywhere = "/api/v1/podtemplates?labelSelector=podtemplate-static%3Dtrue";
    let found = cx.get(everywhere).await?;
    ensure!(items(&found) == 0, "{found}");
    let name = format!("nginx-pod-template-{}", uuid());
    let labels = json!({"podtemplate-static": "true"});
    let object = template(&name, labels, "nginx", NGINX);
    cx.ok(Method::POST, &cx.core("podtemplates"), &object)
        .await?;
    let path = cx.core(&format!("podtemplates/{name}"));
    let found = cx.get(&path).await?;
    ensure!(pods::name(&found) == name, "{found}");
    let patch = json!({"metadata": {"labels": {"podtemplate": "patched"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(version(&patched)? > version(&found)?, "{patched}");
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["labels"]["podtemplate"] == "patched",
        "{found}"
    );
    cx.delete(&path).await?;
    let found = cx.get(everywhere).await?;
    ensure!(items(&found) == 0, "{found}");
    Ok(())
}

pub async fn template_collection(cx: Cx) -> Result<()> {
    let all = cx.core("podtemplates");
    for i in 1..=3 {
        let labels = json!({"podtemplate-set": "true"});
        let object = template(
            &format!("test-podtemplate-{i}"),
            labels,
            "token-test",
            AGNHOST,
        );
        cx.ok(Method::POST, &all, &object).await?;
    }
    let selected = format!("{all}?labelSelector=podtemplate-set%3Dtrue");
    let found = cx.get(&selected).await?;
    ensure!(items(&found) == 3, "{found}");
    cx.delete(&selected).await?;
    let empty = cx
        .eventually(POLL, Duration::from_secs(60), "no templates", || async {
            Ok(items(&cx.get(&selected).await?) == 0)
        })
        .await;
    ensure!(empty.is_ok(), "{empty:?}");
    Ok(())
}

pub async fn template_replaced(cx: Cx) -> Result<()> {
    let name = format!("podtemplate-{}", five());
    let object = template(&name, json!({}), "e2e-test", AGNHOST);
    cx.ok(Method::POST, &cx.core("podtemplates"), &object)
        .await?;
    let path = cx.core(&format!("podtemplates/{name}"));
    let changed = |t: &mut Value| t["metadata"]["annotations"] = json!({"updated": "true"});
    let updated = cx.update(&path, changed).await?;
    ensure!(
        updated["metadata"]["annotations"]["updated"] == "true",
        "{updated}"
    );
    Ok(())
}

// === Lease ===

fn lease_spec(
    holder: &str,
    duration: u32,
    [acquired, renewed]: [&str; 2],
    transitions: u32,
) -> Value {
    let time = |second: &str| format!("0001-01-01T00:00:{second}.000000Z");
    json!({"holderIdentity": holder, "leaseDurationSeconds": duration, "acquireTime": time(acquired),
        "renewTime": time(renewed), "leaseTransitions": transitions})
}

pub async fn lease(cx: Cx) -> Result<()> {
    let all = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
        cx.namespace
    );
    let path = format!("{all}/lease");
    let first = lease_spec("holder", 30, ["02", "05"], 0);
    let object = |name: &str, labels: Value| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "labels": labels}, "spec": first})
    };
    cx.ok(Method::POST, &all, &object("lease", json!({})))
        .await?;
    let mut found = cx.get(&path).await?;
    ensure!(found["spec"] == first, "{found}");
    let second = lease_spec("holder2", 30, ["20", "50"], 1);
    found["spec"] = second.clone();
    cx.ok(Method::PUT, &path, &found).await?;
    let found = cx.get(&path).await?;
    ensure!(found["spec"] == second, "{found}");
    let mut third = lease_spec("holder3", 60, ["50", "00"], 2);
    third["renewTime"] = json!("0001-01-01T00:01:10.000000Z");
    cx.patch(&path, "strategic-merge", &json!({"spec": third}))
        .await?;
    let found = cx.get(&path).await?;
    ensure!(found["spec"] == third, "{found}");
    let labels = json!({"deletecollection": "true"});
    cx.ok(Method::POST, &all, &object("lease2", labels)).await?;
    ensure!(items(&cx.get(&all).await?) == 2, "not two leases");
    cx.delete(&format!("{all}?labelSelector=deletecollection%3Dtrue"))
        .await?;
    ensure!(items(&cx.get(&all).await?) == 1, "not one lease");
    cx.delete(&path).await?;
    let gone = cx
        .send(Method::GET, &path, "application/json", None)
        .await?;
    ensure!(gone.as_ref().is_err_and(|f| f.code == 404), "{gone:?}");
    cx.get("/apis/coordination.k8s.io/v1/leases").await?;
    Ok(())
}

// === RuntimeClass ===

const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

fn class(name: &str, handler: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler})
}

fn class_pod(class: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": format!("test-runtimeclass-{class}-")},
        "spec": {"runtimeClassName": class, "restartPolicy": "Never", "automountServiceAccountToken": false,
            "containers": [{"name": "test", "image": BUSYBOX, "command": ["true"]}]}})
}

async fn class_refused(cx: &Cx, class: &str) -> Result<()> {
    let refused = cx
        .refused(Method::POST, &cx.core("pods"), &class_pod(class))
        .await?;
    ensure!(
        refused.code == 403 && refused.reason == "Forbidden",
        "{refused:?}"
    );
    Ok(())
}

pub async fn class_missing(cx: Cx) -> Result<()> {
    let name = format!("{}-nonexistent", cx.namespace);
    let done = class_refused(&cx, &name).await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn class_deleted(cx: Cx) -> Result<()> {
    let name = format!("{}-delete-me", cx.namespace);
    cx.ok(Method::POST, CLASSES, &class(&name, "runc")).await?;
    let path = format!("{CLASSES}/{name}");
    cx.delete(&path).await?;
    pods::gone(&cx, &path, Duration::from_secs(60)).await?;
    let done = class_refused(&cx, &name).await;
    ensure!(done.is_ok(), "{done:?}");
    Ok(())
}

pub async fn class_scheduled(cx: Cx, overhead: bool) -> Result<()> {
    let name = format!("{}-preconfigured-handler", cx.namespace);
    let mut object = class(&name, "test-handler");
    if overhead {
        object["overhead"] = json!({"podFixed": {"cpu": "10m", "memory": "1Mi"}});
    }
    cx.ok(Method::POST, CLASSES, &object).await?;
    let made = pods::create(&cx, &class_pod(&name)).await?;
    let scheduled = |pod: &Value| {
        Ok(pod["spec"]["nodeName"]
            .as_str()
            .is_some_and(|n| !n.is_empty()))
    };
    let within = Duration::from_secs(320);
    let pod = pods::wait(&cx, pods::name(&made), within, "scheduled", scheduled).await?;
    ensure!(
        items(&cx.get(&cx.core("pods")).await?) == 1,
        "more pods than one"
    );
    let wanted = if overhead {
        json!({"cpu": "10m", "memory": "1Mi"})
    } else {
        Value::Null
    };
    ensure!(pod["spec"]["overhead"] == wanted, "{}", pod["spec"]);
    cx.delete(&format!("{CLASSES}/{name}")).await?;
    Ok(())
}

pub async fn class_operations(cx: Cx) -> Result<()> {
    let groups = cx.get("/apis").await?;
    let mut groups = groups["groups"].as_array().into_iter().flatten();
    let has = |g: &Value| {
        g["versions"]
            .as_array()
            .is_some_and(|v| v.iter().any(|v| v["version"] == "v1"))
    };
    ensure!(
        groups.any(|g| g["name"] == "node.k8s.io" && has(g)),
        "/apis has no node.k8s.io/v1"
    );
    ensure!(
        has(&cx.get("/apis/node.k8s.io").await?),
        "/apis/node.k8s.io has no v1"
    );
    let resources = cx.get("/apis/node.k8s.io/v1").await?;
    let mut resources = resources["resources"].as_array().into_iter().flatten();
    ensure!(
        resources.any(|r| r["name"] == "runtimeclasses"),
        "runtimeclasses are not discovered"
    );
    let unique = &cx.namespace;
    let object = |i: &str| {
        let mut object = class(
            &format!("{unique}-handler{i}"),
            &format!("{unique}-conformance-runtime-class{i}"),
        );
        object["metadata"]["labels"] = json!({"test": unique});
        object
    };
    let first = cx.ok(Method::POST, CLASSES, &object("")).await?;
    let twice = cx.refused(Method::POST, CLASSES, &object("")).await?;
    ensure!(
        twice.code == 409 && twice.reason == "AlreadyExists",
        "{twice:?}"
    );
    cx.ok(Method::POST, CLASSES, &object("2")).await?;
    let query = format!("labelSelector=test%3D{unique}");
    let selected = format!("{CLASSES}?{query}");
    let mut watch = cx.watch(CLASSES, &query).await?;
    cx.ok(Method::POST, CLASSES, &object("3")).await?;
    let path = format!("{CLASSES}/{unique}-handler");
    let found = cx.get(&path).await?;
    ensure!(
        found["metadata"]["uid"] == first["metadata"]["uid"],
        "{found}"
    );
    ensure!(items(&cx.get(&selected).await?) == 3, "not three classes");
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let mut patched = cx.patch(&path, "merge", &patch).await?;
    ensure!(
        patched["metadata"]["annotations"]["patched"] == "true",
        "{patched}"
    );
    patched["metadata"]["annotations"]["updated"] = json!("true");
    let updated = cx.ok(Method::PUT, &path, &patched).await?;
    ensure!(
        updated["metadata"]["annotations"]["updated"] == "true",
        "{updated}"
    );
    // More than upstream, which is content with the first event: all that happened is told.
    loop {
        let (kind, class) = watch.next(Duration::from_secs(30)).await?;
        ensure!(class["kind"] == "RuntimeClass", "{kind} {class}");
        if kind == "MODIFIED" && class["metadata"]["annotations"]["updated"] == "true" {
            break;
        }
    }
    cx.delete(&path).await?;
    let gone = cx
        .send(Method::GET, &path, "application/json", None)
        .await?;
    ensure!(gone.as_ref().is_err_and(|f| f.code == 404), "{gone:?}");
    ensure!(items(&cx.get(&selected).await?) == 2, "not two classes");
    cx.delete(&selected).await?;
    ensure!(items(&cx.get(&selected).await?) == 0, "classes are left");
    Ok(())
}

// === Node Lifecycle ===

pub async fn node_lifecycle(cx: Cx) -> Result<()> {
    let name = format!("e2e-fake-node-{}", five());
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"unschedulable": true},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": "E2E",
            "message": "Set from e2e test"}]}});
    let made = cx.ok(Method::POST, "/api/v1/nodes", &node).await?;
    ensure!(pods::name(&made) == name, "{made}");
    let path = format!("/api/v1/nodes/{name}");
    let found = cx.get(&path).await?;
    ensure!(pods::name(&found) == name, "{found}");
    let patch = json!({"metadata": {"labels": {&name: "patched"}}});
    let patched = cx.patch(&path, "strategic-merge", &patch).await?;
    ensure!(
        patched["metadata"]["labels"][&name] == "patched",
        "{patched}"
    );
    ensure!(version(&patched)? > version(&made)?, "{patched}");
    let list = cx
        .get(&format!("/api/v1/nodes?labelSelector={name}%3Dpatched"))
        .await?;
    ensure!(items(&list) == 1, "{list}");
    let updated = cx
        .update(&path, |n| n["metadata"]["labels"][&name] = json!("updated"))
        .await?;
    ensure!(
        updated["metadata"]["labels"][&name] == "updated",
        "{updated}"
    );
    cx.delete(&path).await?;
    pods::gone(&cx, &path, Duration::from_secs(180)).await
}

// === NoExecuteTaintManager ===

const TAINT: &str = "kubernetes.io/e2e-evict-taint-key";

fn tolerating(name: &str, group: &str, seconds: u32) -> Value {
    let mut pod = pods::pod(
        name,
        json!({"containers": [{"name": "pause", "image": PAUSE}],
            "tolerations": [{"key": TAINT, "value": "evictTaintVal", "effect": "NoExecute", "tolerationSeconds": seconds}]}),
    );
    pod["metadata"]["labels"] = json!({"group": group});
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    pod
}

/// Adds the taint to a node, or takes it away.
async fn set_taint(cx: &Cx, node: &str, on: bool) -> Result<()> {
    let path = format!("/api/v1/nodes/{node}");
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let taint =
        json!({"key": TAINT, "value": "evictTaintVal", "effect": "NoExecute", "timeAdded": now});
    cx.update(&path, |node| {
        let old = node["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut taints: Vec<Value> = old.into_iter().filter(|t| t["key"] != TAINT).collect();
        if on {
            taints.push(taint.clone());
        }
        node["spec"]["taints"] = json!(taints);
    })
    .await?;
    let node = cx.get(&path).await?;
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    ensure!(taints.any(|t| t["key"] == TAINT) == on, "{node}");
    Ok(())
}

async fn placed(cx: &Cx, pod: &Value) -> Result<String> {
    let made = pods::create(cx, pod).await?;
    let is = |pod: &Value| {
        Ok(pod["spec"]["nodeName"]
            .as_str()
            .is_some_and(|n| !n.is_empty()))
    };
    let pod = pods::wait(cx, pods::name(&made), pods::START_SHORT, "scheduled", is).await?;
    Ok(pod["spec"]["nodeName"]
        .as_str()
        .context("a node")?
        .to_string())
}

pub async fn eviction_cancelled(cx: Cx) -> Result<()> {
    let node = placed(&cx, &tolerating("taint-eviction-4", "taint-eviction-4", 10)).await?;
    let mut watch = cx
        .watch(&cx.core("pods"), "labelSelector=group%3Dtaint-eviction-4")
        .await?;
    set_taint(&cx, &node, true).await?;
    set_taint(&cx, &node, false).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(75);
    while tokio::time::Instant::now() < end {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if let Ok((kind, pod)) = watch.next(left).await {
            ensure!(kind != "DELETED", "{pod}");
        }
    }
    let pod = pods::get(&cx, "taint-eviction-4").await?;
    ensure!(pod["metadata"]["deletionTimestamp"].is_null(), "{pod}");
    Ok(())
}

pub async fn evicted(cx: Cx) -> Result<()> {
    let group = "taint-eviction-b";
    let node = placed(&cx, &tolerating("taint-eviction-b1", group, 5)).await?;
    let host = cx.get(&format!("/api/v1/nodes/{node}")).await?;
    let host = host["metadata"]["labels"]["kubernetes.io/hostname"].as_str();
    let mut second = tolerating("taint-eviction-b2", group, 25);
    second["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": host.context("hostname")?});
    placed(&cx, &second).await?;
    for name in ["taint-eviction-b1", "taint-eviction-b2"] {
        pods::running(&cx, name, pods::START).await?;
    }
    let mut watch = cx
        .watch(&cx.core("pods"), &format!("labelSelector=group%3D{group}"))
        .await?;
    set_taint(&cx, &node, true).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(110);
    let mut deleted = 0;
    let done = loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        match watch.next(left).await {
            Ok((kind, _)) if kind == "DELETED" => deleted += 1,
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        if deleted == 2 {
            break Ok(());
        }
    };
    set_taint(&cx, &node, false).await?;
    if done.is_err() {
        bail!("{deleted} of 2 pods were evicted: {done:?}");
    }
    Ok(())
}
