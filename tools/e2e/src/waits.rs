//! Waits that many twins share, with upstream's limits.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::rest::{Cx, POD_START, POLL, labelled};

/// How long a controller may take for a whole rollout.
pub const LONG: Duration = Duration::from_secs(300);
/// How long a pod may take until it is gone.
pub const POD_DELETE: Duration = Duration::from_secs(300);
const CREATED: Duration = Duration::from_secs(120);
const OBSERVED: Duration = Duration::from_secs(60);

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = object["status"]["conditions"].as_array()?;
    all.iter().find(|c| c["type"] == kind)
}

/// Is a condition True?
pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c["status"] == "True")
}

/// The name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The reference to the controller of an object.
pub fn controller(object: &Value) -> Option<&Value> {
    let all = object["metadata"]["ownerReferences"].as_array()?;
    all.iter().find(|r| r["controller"] == true)
}

/// Is an object's number what is wanted? Absent is zero.
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// Waits until a pod runs; Failed and Succeeded are failures, 404 is looked at again.
pub async fn running(cx: &Cx, pod: &str) -> Result<Value> {
    let path = cx.core(&format!("pods/{pod}"));
    cx.eventually(POLL, POD_START, &format!("{pod} Running"), || async {
        let Some(found) = cx.find(&path).await? else {
            return Ok(false);
        };
        match found["status"]["phase"].as_str() {
            Some("Running") => Ok(true),
            Some(phase @ ("Failed" | "Succeeded")) => {
                bail!("{pod} is {phase}: {}", found["status"])
            }
            _ => Ok(false),
        }
    })
    .await?;
    cx.get(&path).await
}

/// Waits until a pod runs and is ready.
pub async fn ready(cx: &Cx, pod: &str) -> Result<Value> {
    running(cx, pod).await?;
    let path = cx.core(&format!("pods/{pod}"));
    cx.eventually(POLL, POD_START, &format!("{pod} Ready"), || async {
        Ok(is_true(&cx.get(&path).await?, "Ready"))
    })
    .await?;
    cx.get(&path).await
}

/// Waits until a pod has succeeded; Failed is a failure.
pub async fn succeeded(cx: &Cx, pod: &str) -> Result<Value> {
    let path = cx.core(&format!("pods/{pod}"));
    cx.eventually(POLL, POD_START, &format!("{pod} Succeeded"), || async {
        let found = cx.get(&path).await?;
        match found["status"]["phase"].as_str() {
            Some("Succeeded") => Ok(true),
            Some("Failed") => bail!("{pod} is Failed: {}", found["status"]),
            _ => Ok(false),
        }
    })
    .await?;
    cx.get(&path).await
}

/// The log of a container.
pub async fn log(cx: &Cx, pod: &str, container: &str) -> Result<String> {
    let path = cx.core(&format!("pods/{pod}/log?container={container}"));
    let answer = cx.raw(http::Method::GET, &path, &[], "").await?;
    ensure!(answer.code == 200, "GET {path}: {answer:?}");
    Ok(answer.text)
}

/// The pods that a selector finds, those without deletionTimestamp first asked for.
pub async fn pods(cx: &Cx, selector: &str) -> Result<Vec<Value>> {
    let path = cx.core(&format!("pods?{}", labelled(selector)));
    cx.items(&path).await
}

/// Waits until exactly `n` pods are there that are not being deleted.
pub async fn pods_created(cx: &Cx, selector: &str, n: usize) -> Result<Vec<Value>> {
    let live = || async {
        let all = pods(cx, selector).await?;
        let live = |p: &Value| p["metadata"]["deletionTimestamp"].is_null();
        anyhow::Ok(all.into_iter().filter(live).collect::<Vec<_>>())
    };
    let what = format!("{n} pods of {selector}");
    cx.eventually(POLL, CREATED, &what, || async {
        Ok(live().await?.len() == n)
    })
    .await?;
    live().await
}

/// Waits until exactly `n` pods are there and run.
pub async fn pods_running(cx: &Cx, selector: &str, n: usize) -> Result<Vec<Value>> {
    for pod in pods_created(cx, selector, n).await? {
        running(cx, name(&pod)).await?;
    }
    pods_created(cx, selector, n).await
}

/// Waits until an object fits; the object.
pub async fn object(
    cx: &Cx,
    path: &str,
    within: Duration,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let end = tokio::time::Instant::now() + within;
    loop {
        let found = cx.get(path).await?;
        if fits(&found) {
            return Ok(found);
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "{path}: not in {within:?}: {what}; status {}",
            found["status"]
        );
        tokio::time::sleep(POLL / 2).await;
    }
}

/// Waits until the controller has seen an object's newest generation.
pub async fn observed(cx: &Cx, path: &str) -> Result<Value> {
    let seen = |o: &Value| {
        number(&o["status"]["observedGeneration"]) >= number(&o["metadata"]["generation"])
    };
    object(cx, path, OBSERVED, "observed", seen).await
}

/// Is a Deployment's rollout done?
pub fn complete(d: &Value) -> bool {
    let wanted = number(&d["spec"]["replicas"]);
    let counts = ["updatedReplicas", "replicas", "availableReplicas"];
    counts.iter().all(|c| number(&d["status"][c]) == wanted)
        && number(&d["status"]["observedGeneration"]) >= number(&d["metadata"]["generation"])
}

/// Waits until a Deployment's rollout is done.
pub async fn deployment_complete(cx: &Cx, deployment: &str) -> Result<Value> {
    let path = cx.group("apps/v1", &format!("deployments/{deployment}"));
    object(cx, &path, LONG, "complete", complete).await
}

/// The ReplicaSets of a Deployment: the newest one, if it is there, and the old ones.
pub async fn replica_sets(cx: &Cx, deployment: &Value) -> Result<(Option<Value>, Vec<Value>)> {
    let mut owned = cx.items(&cx.group("apps/v1", "replicasets")).await?;
    let uid = &deployment["metadata"]["uid"];
    owned.retain(|rs| controller(rs).is_some_and(|c| &c["uid"] == uid));
    owned.sort_by_key(|rs| {
        let made = rs["metadata"]["creationTimestamp"].as_str();
        (made.unwrap_or_default().to_string(), name(rs).to_string())
    });
    let same = |rs: &Value| {
        let mut template = rs["spec"]["template"].clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove("pod-template-hash");
        }
        template == deployment["spec"]["template"]
    };
    let new = owned.iter().position(same).map(|i| owned.remove(i));
    Ok((new, owned))
}

/// Waits until a Deployment and its new ReplicaSet have a revision and an image.
pub async fn revision(cx: &Cx, deployment: &str, revision: &str, image: &str) -> Result<()> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let path = cx.group("apps/v1", &format!("deployments/{deployment}"));
    let what = format!("{deployment} at revision {revision} with {image}");
    cx.eventually(POLL, LONG, &what, || async {
        let d = cx.get(&path).await?;
        let (Some(rs), _) = replica_sets(cx, &d).await? else {
            return Ok(false);
        };
        let has = |o: &Value| {
            let containers = o["spec"]["template"]["spec"]["containers"].as_array();
            o["metadata"]["annotations"][REVISION] == revision
                && containers.is_some_and(|all| all.iter().any(|c| c["image"] == image))
        };
        let hashed = rs["spec"]["selector"]["matchLabels"]["pod-template-hash"].is_string();
        Ok(has(&d) && has(&rs) && hashed)
    })
    .await
}

/// Deletes a workload in the background; its pods and it must be gone afterwards.
pub async fn deleted_with_pods(cx: &Cx, path: &str, selector: &str) -> Result<()> {
    let options = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions",
        "propagationPolicy": "Background"});
    cx.ok(http::Method::DELETE, path, &options).await?;
    let what = format!("the pods of {path} gone");
    cx.eventually(POLL, POD_DELETE * 2, &what, || async {
        Ok(pods(cx, selector).await?.is_empty())
    })
    .await?;
    ensure!(!cx.exists(path).await?, "{path} is still there");
    Ok(())
}

/// Is a node ready, schedulable and without taints?
pub fn node_is_usable(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let hard = taints.filter(|t| t["effect"] != "PreferNoSchedule").count();
    is_true(node, "Ready") && node["spec"]["unschedulable"] != true && hard == 0
}

/// The nodes that are not cordoned.
pub const SCHEDULABLE: &str =
    "/api/v1/nodes?fieldSelector=spec.unschedulable%3Dfalse&resourceVersion=0";

/// Waits until all nodes can run pods, as upstream's suite does before its first test.
pub async fn nodes_schedulable(cx: &Cx, within: Duration) -> Result<()> {
    cx.eventually(POLL, within, "all nodes are schedulable", || async {
        let nodes = cx.items(SCHEDULABLE).await?;
        Ok(!nodes.is_empty() && nodes.iter().all(node_is_usable))
    })
    .await
}

/// The node that a test chooses: ready, schedulable, without taints.
pub async fn ready_node(cx: &Cx) -> Result<Value> {
    let nodes = cx.items("/api/v1/nodes").await?;
    let found = nodes.into_iter().find(node_is_usable);
    found.context("no ready, schedulable, untainted node")
}

/// Waits until there is such a node, as upstream's suite does before its first test.
pub async fn node_ready(cx: &Cx) -> Result<()> {
    cx.eventually(POLL, POD_START, "a ready node", || async {
        Ok(ready_node(cx).await.is_ok())
    })
    .await
}
