//! Twin of kubectl describe.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::Twin;
use super::primary;
use crate::images::AGNHOST_IMAGE;
use crate::rest::Cx;
use crate::waits::name;

pub const TWINS: &[Twin] = &[twin!(
    "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]",
    "kubectl",
    describe
)];

/// Each requirement's first string must be in a line at or after the line of the one before, the others in
/// the same line.
fn in_order(text: &str, wanted: &[&[&str]]) -> Result<()> {
    let mut lines = text.lines().peekable();
    for requirement in wanted {
        let first = requirement.first().copied().unwrap_or_default();
        while lines.peek().is_some_and(|l| !l.contains(first)) {
            lines.next();
        }
        let line = lines.peek().copied().unwrap_or_default();
        ensure!(
            requirement.iter().all(|part| line.contains(part)),
            "{requirement:?} is not in {line:?} of\n{text}"
        );
    }
    Ok(())
}

async fn describe(cx: Cx) -> Result<()> {
    let labels = json!({"app": "agnhost", "role": "primary"});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "agnhost-primary", "labels": labels},
        "spec": {"selector": labels, "ports": [{"port": 6379, "targetPort": "agnhost-server"}]}});
    cx.k(&["create", "-f", "-"], &service.to_string()).await?;
    let pods = primary(&cx).await?;
    ensure!(!pods.is_empty(), "no pods");
    let ns = cx.namespace.clone();
    for pod in &pods {
        let text = cx.k(&["describe", "pod", name(pod)], "").await?;
        let wanted: &[&[&str]] = &[
            &["Name:", "agnhost-primary-"],
            &["Namespace:", &ns],
            &["Node:"],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Status:", "Running"],
            &["IP:"],
            &["Controlled By:", "ReplicationController/agnhost-primary"],
            &["Image:", AGNHOST_IMAGE],
            &["State:", "Running"],
            &["QoS Class:", "BestEffort"],
        ];
        in_order(&text, wanted)?;
    }
    let wanted: &[&[&str]] = &[
        &["Name:", "agnhost-primary"],
        &["Namespace:", &ns],
        &["Selector:", "app=agnhost,role=primary"],
        &["Labels:", "app=agnhost"],
        &["role=primary"],
        &["Annotations:"],
        &["Replicas:", "1 current", "1 desired"],
        &[
            "Pods Status:",
            "1 Running",
            "0 Waiting",
            "0 Succeeded",
            "0 Failed",
        ],
        &["Pod Template:"],
        &["Image:", AGNHOST_IMAGE],
        &["Events:"],
    ];
    let (every, within) = (Duration::from_secs(1), Duration::from_secs(60));
    cx.eventually(every, within, "kubectl describe rc", || async {
        let text = cx.k(&["describe", "rc", "agnhost-primary"], "").await?;
        Ok(in_order(&text, wanted).is_ok())
    })
    .await?;
    others(&cx).await
}

/// A service, a node and a namespace.
async fn others(cx: &Cx) -> Result<()> {
    let ns = cx.namespace.clone();
    let text = cx
        .k(&["describe", "service", "agnhost-primary"], "")
        .await?;
    let wanted: &[&[&str]] = &[
        &["Name:", "agnhost-primary"],
        &["Namespace:", &ns],
        &["Labels:", "app=agnhost"],
        &["role=primary"],
        &["Annotations:"],
        &["Selector:", "app=agnhost", "role=primary"],
        &["Type:", "ClusterIP"],
        &["IP:"],
        &["Port:", "<unset>", "6379/TCP"],
        &["Endpoints:"],
        &["Session Affinity:", "None"],
    ];
    in_order(&text, wanted)?;
    let nodes = cx.items("/api/v1/nodes").await?;
    ensure!(!nodes.is_empty(), "no nodes");
    let node = name(&nodes[0]);
    let text = cx.k(&["describe", "node", node], "").await?;
    let columns = [
        "Type",
        "Status",
        "LastHeartbeatTime",
        "LastTransitionTime",
        "Reason",
        "Message",
    ];
    let wanted: &[&[&str]] = &[
        &["Name:", node],
        &["Labels:"],
        &["Annotations:"],
        &["CreationTimestamp:"],
        &["Conditions:"],
        &columns,
        &["Addresses:"],
        &["Capacity:"],
        &["Version:"],
        &["Kernel Version:"],
        &["OS Image:"],
        &["Container Runtime Version:"],
        // kubectl no longer prints the version of kube-proxy, and upstream's test no longer asks for it.
        &["Kubelet Version:"],
        &["Pods:"],
    ];
    in_order(&text, wanted)?;
    let text = cx.k(&["describe", "namespace", &ns], "").await?;
    let wanted: &[&[&str]] = &[
        &["Name:", &ns],
        &["Labels:"],
        &["Annotations:"],
        &["Status:", "Active"],
    ];
    in_order(&text, wanted)
}
