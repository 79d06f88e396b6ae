//! The node's own object: registration and status. Upstream: pkg/kubelet/kubelet_node_status.go, nodestatus.

pub mod facts;
pub mod lease;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, NodeStatus};
use client::EventType;
use client::api::{Patch, PatchParams, PostParams};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::kubelet::Kubelet;
use crate::limits;

/// Wait before a failed registration is tried again.
const REGISTER_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(7));
/// How often a node that is not ready yet looks again.
const UNREADY_CHECK: Duration = Duration::from_millis(100);
/// After that long a node that is not ready is looked at as rarely as others.
const UNREADY_FAST: Duration = Duration::from_secs(120);

/// Which pressures hold, and when each was last seen.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    pub seen: BTreeMap<&'static str, Instant>,
}

// === Pressure ===

impl Pressure {
    /// Conditions that hold now: each is held for a while after it was last seen.
    pub fn active(&self) -> Vec<&'static str> {
        let held = self.seen.iter();
        held.filter(|(_, at)| at.elapsed() < limits::PRESSURE_TRANSITION)
            .map(|(name, _)| *name)
            .collect()
    }
}

/// Registers the node, then keeps its status true.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    register(&kubelet).await;
    let began = Instant::now();
    let mut reported: Option<(NodeStatus, Instant)> = None;
    loop {
        let status = object::status(&kubelet, Timestamp::now()).await;
        let ready = object::is_ready(&status);
        let due = reported.as_ref().is_none_or(|(old, at)| {
            at.elapsed() >= limits::NODE_STATUS_REPORT || !object::same(old, &status)
        });
        if due {
            match write(&kubelet, &status).await {
                Ok(()) => {
                    tell(&kubelet, reported.as_ref().map(|(old, _)| old), &status);
                    reported = Some((status, Instant::now()));
                }
                Err(error) => tracing::warn!(%error, "node status not written"),
            }
        }
        let fast = !ready && began.elapsed() < UNREADY_FAST;
        let wait = if fast {
            UNREADY_CHECK
        } else {
            limits::NODE_STATUS_CHECK
        };
        tokio::time::sleep(wait).await;
    }
}

async fn register(kubelet: &Kubelet) {
    let mut wait = REGISTER_RETRY.0;
    loop {
        match try_register(kubelet).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "node not registered"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(REGISTER_RETRY.1);
    }
}

async fn try_register(kubelet: &Kubelet) -> Result<(), client::Error> {
    let api = kubelet.client.all::<Node>();
    let wanted = object::new(kubelet, Timestamp::now()).await;
    match api.create(&PostParams::default(), &wanted).await {
        Ok(_) => {
            tracing::info!(node = kubelet.config.node_name, "node registered");
            Ok(())
        }
        Err(e) if client::is_already_exists(&e) => {
            let found = api.get(&kubelet.config.node_name).await?;
            let Some(patch) = object::reconcile(&found, &wanted) else {
                return Ok(());
            };
            let patch = Patch::Strategic(&patch);
            let params = PatchParams::default();
            api.patch(&kubelet.config.node_name, &params, &patch)
                .await?;
            Ok(())
        }
        Err(e) => Err(e),
    }
}

async fn write(kubelet: &Kubelet, status: &NodeStatus) -> Result<(), client::Error> {
    let api = kubelet.client.all::<Node>();
    let name = &kubelet.config.node_name;
    let patch = json!({"status": object::patch(status)});
    let patch = Patch::Strategic(&patch);
    api.patch_status(name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Events about conditions that changed.
fn tell(kubelet: &Kubelet, old: Option<&NodeStatus>, new: &NodeStatus) {
    let before = |kind: &str| {
        let list = old.and_then(|s| s.conditions.as_ref());
        list.into_iter().flatten().find(|c| c.type_ == kind)
    };
    for c in new.conditions.iter().flatten() {
        let was = before(&c.type_).map(|c| c.status.as_str());
        if was == Some(c.status.as_str()) {
            continue;
        }
        let reason = match (c.type_.as_str(), c.status.as_str()) {
            ("Ready", "True") => "NodeReady",
            // A node that was never ready says nothing.
            ("Ready", _) if was.is_none() => continue,
            ("Ready", _) => "NodeNotReady",
            ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
            ("MemoryPressure", _) => "NodeHasSufficientMemory",
            ("DiskPressure", "True") => "NodeHasDiskPressure",
            ("DiskPressure", _) => "NodeHasNoDiskPressure",
            ("PIDPressure", "True") => "NodeHasInsufficientPID",
            ("PIDPressure", _) => "NodeHasSufficientPID",
            _ => continue,
        };
        let text = format!("Node {} status is now: {reason}", kubelet.config.node_name);
        kubelet.node_event(EventType::Normal, reason, &text);
    }
}
