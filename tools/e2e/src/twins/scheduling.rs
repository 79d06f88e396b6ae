//! Twins of [sig-scheduling]: limit ranges, predicates, preemption.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Twin;
use crate::images::{AGNHOST_IMAGE as AGNHOST, PAUSE_IMAGE as PAUSE};
use crate::rest::{Cx, version};

mod limit_range;
mod predicates;
mod preemption;

pub const TWINS: &[Twin] = &[
    Twin {
        name: "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]",
        base: "limitrange",
        run: |cx| Box::pin(limit_range::limit_range_defaults(cx)),
    },
    Twin {
        name: "[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]",
        base: "limitrange",
        run: |cx| Box::pin(limit_range::limit_range_collection(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPredicates validates resource limits of pods that are allowed to run [Conformance] [Serial]",
        base: "sched-pred",
        run: |cx| Box::pin(predicates::resource_limits(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPredicates validates that NodeSelector is respected if not matching [Conformance] [Serial]",
        base: "sched-pred",
        run: |cx| Box::pin(predicates::selector_not_matching(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPredicates validates that NodeSelector is respected if matching [Conformance] [Serial]",
        base: "sched-pred",
        run: |cx| Box::pin(predicates::selector_matching(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPredicates validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Conformance] [Serial]",
        base: "sched-pred",
        run: |cx| Box::pin(predicates::host_port_conflict(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPreemption validates basic preemption works [Conformance] [Serial]",
        base: "sched-preemption",
        run: |cx| Box::pin(preemption::basic(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPreemption validates lower priority pod preemption by critical pod [Conformance] [Serial]",
        base: "sched-preemption",
        run: |cx| Box::pin(preemption::critical(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPreemption validates pod disruption condition is added to the preempted pod [Conformance] [Serial]",
        base: "sched-preemption",
        run: |cx| Box::pin(preemption::disruption_condition(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPreemption PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Conformance] [Serial]",
        base: "sched-preemption-path",
        run: |cx| Box::pin(preemption::execution_path(cx)),
    },
    Twin {
        name: "[sig-scheduling] SchedulerPreemption PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance] [Serial]",
        base: "sched-preemption",
        run: |cx| Box::pin(preemption::priority_class_endpoints(cx)),
    },
];

const POLL: Duration = Duration::from_secs(2);
const POD_START: Duration = Duration::from_secs(300);
const POD_START_SHORT: Duration = Duration::from_secs(120);

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The pause pod of the predicate and preemption tests.
fn pause_pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {}},
        "spec": {"terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": name, "image": PAUSE, "securityContext":
                {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

/// Sets requests and limits of a pod's container.
fn ask(pod: &mut Value, amounts: Value) {
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
}

async fn create_pod(cx: &Cx, pod: &Value) -> Result<Value> {
    cx.ok(Method::POST, &cx.core("pods"), pod).await
}

/// Waits until a pod at `path` is running; Failed or Succeeded is a failure.
async fn running(cx: &Cx, path: &str, within: Duration) -> Result<Value> {
    cx.eventually(POLL, within, &format!("{path} running"), || async {
        let pod = cx.get(path).await?;
        match pod["status"]["phase"].as_str() {
            Some("Running") => Ok(true),
            Some(phase @ ("Failed" | "Succeeded")) => bail!("{path} is {phase}"),
            _ => Ok(false),
        }
    })
    .await?;
    cx.get(path).await
}

async fn not_pending(cx: &Cx, name: &str) -> Result<Value> {
    let path = cx.core(&format!("pods/{name}"));
    cx.eventually(POLL, POD_START, &format!("{name} not pending"), || async {
        let pod = cx.get(&path).await?;
        Ok(pod["status"]["phase"]
            .as_str()
            .is_some_and(|p| p != "Pending"))
    })
    .await?;
    cx.get(&path).await
}

/// Nodes that are ready and schedulable.
async fn ready_nodes(cx: &Cx) -> Result<Vec<Value>> {
    let all = cx.get("/api/v1/nodes").await?;
    let ready = |n: &&Value| {
        let conditions = n["status"]["conditions"].as_array();
        let is = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        let tainted = n["spec"]["taints"].as_array().into_iter().flatten();
        conditions.is_some_and(|c| c.iter().any(is))
            && n["spec"]["unschedulable"] != true
            && tainted
                .filter(|t| t["effect"] != "PreferNoSchedule")
                .count()
                == 0
    };
    let nodes = all["items"].as_array().into_iter().flatten();
    let nodes: Vec<Value> = nodes.filter(ready).cloned().collect();
    ensure!(!nodes.is_empty(), "no ready, schedulable node");
    Ok(nodes)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The name of a node on which a pod without demands starts.
async fn node_that_runs_a_pod(cx: &Cx) -> Result<String> {
    let path = cx.core("pods/without-label");
    create_pod(cx, &pause_pod("without-label", json!({}))).await?;
    let pod = running(cx, &path, POD_START_SHORT).await?;
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    cx.ok(Method::DELETE, &path, &now).await?;
    Ok(node.into())
}

/// Sets (or with `null` removes) a label of a node.
async fn label_node(cx: &Cx, node: &str, key: &str, value: Value) -> Result<()> {
    let path = format!("/api/v1/nodes/{node}");
    let patch = json!({"metadata": {"labels": {key: value}}});
    cx.patch(&path, "strategic-merge", &patch).await?;
    let found = cx.get(&path).await?;
    let label = found["metadata"]["labels"].get(key).cloned();
    ensure!(label.unwrap_or_default() == value, "{key} is not {value}");
    Ok(())
}

/// Waits for the event that says that a pod could not be scheduled.
async fn failed_scheduling(cx: &Cx, pod: &str) -> Result<()> {
    let events = cx.core("events");
    let what = format!("FailedScheduling of {pod}");
    cx.eventually(POLL, Duration::from_secs(120), &what, || async {
        let all = cx.get(&events).await?;
        let is = |e: &Value| {
            e["reason"] == "FailedScheduling" && e["type"] == "Warning" && name(e).starts_with(pod)
        };
        Ok(all["items"].as_array().is_some_and(|a| a.iter().any(is)))
    })
    .await
}

/// Pods of the namespace with and without a node; those with one must say so in their condition.
async fn counts(cx: &Cx) -> Result<(usize, usize)> {
    let pods = cx.get(&cx.core("pods")).await?;
    let (mut with, mut without) = (0, 0);
    for pod in pods["items"].as_array().into_iter().flatten() {
        if pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty() {
            without += 1;
            continue;
        }
        with += 1;
        let conditions = pod["status"]["conditions"].as_array();
        let is = |c: &Value| c["type"] == "PodScheduled" && c["status"] == "True";
        ensure!(conditions.is_some_and(|c| c.iter().any(is)), "{pod}");
    }
    Ok((with, without))
}
