//! Pods that nobody else will delete: of nodes that are gone, never scheduled, or ended long ago.
//! Upstream: pkg/controller/podgc. A pass comes 20 s after something it may concern, not every 20 s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod};
use async_trait::async_trait;
use client::Client;
use client::api::{DeleteParams, Patch};
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::{Value, json};

use super::taint_eviction::disruption_patch;
use crate::common::object::Object;
use crate::common::{act, pods};
use crate::{Controller, Setup, limits};

pub static CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector-controller",
    account: "pod-garbage-collector",
    component: "pod-garbage-collector-controller",
    needs: &[("", "nodes"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The only key: a pass looks at all pods.
const PASS: &str = "pods";

fn build(setup: &Setup) -> Reconciler {
    let this = PodGc {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
        missing: Mutex::default(),
    };
    let soon = || {
        vec![Wake {
            key: Key::new("", PASS),
            after: limits::POD_GC_PERIOD,
        }]
    };
    let nodes = setup.client.clone();
    Reconciler::new("pod-garbage-collector-controller", 1, this)
        .on(Trigger::map("", "nodes", move |e| {
            let out = || e.typed::<Node>().is_some_and(|n| out_of_service(&n));
            if e.deleted() || out() {
                soon()
            } else {
                Vec::new()
            }
        }))
        .on(Trigger::map("", "pods", move |e| {
            let Some(pod) = e.typed::<Pod>().filter(|_| !e.deleted()) else {
                return Vec::new();
            };
            let lost = || match pods::node_of(e.entry) {
                None => pod.deleting(),
                Some(node) => {
                    let lister = nodes.lister::<Node>();
                    lister.is_ok_and(|l| l.cache().get("", node).is_none())
                }
            };
            if pods::terminal(&pod) || lost() {
                soon()
            } else {
                Vec::new()
            }
        }))
}

fn out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let ready = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True");
    !ready && taints.any(|t| t.key == OUT_OF_SERVICE)
}

struct PodGc {
    client: Client,
    clock: Clock,
    /// Since when a node with pods is missing.
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// Surplus pods that have ended: those that were evicted first, then the oldest.
fn surplus(all: &[Arc<Pod>], keep: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<Arc<Pod>> = all.iter().filter(|p| pods::terminal(p)).cloned().collect();
    let drop = ended.len().saturating_sub(keep);
    let evicted = |p: &Pod| p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
    ended.sort_by(|a, b| {
        let key = |p: &Arc<Pod>| (!evicted(p), p.created());
        key(a).cmp(&key(b)).then_with(|| a.name().cmp(b.name()))
    });
    ended.truncate(drop);
    ended
}

#[async_trait]
impl Reconcile for PodGc {
    async fn reconcile(&self, _key: &Key) -> Result<Next, Error> {
        let all = self.client.lister::<Pod>()?.list(None);
        let nodes = self.client.lister::<Node>()?;
        for pod in surplus(&all, limits::TERMINATED_PODS) {
            self.remove(&pod, None).await?;
        }
        let now = self.clock.now();
        let mut next = Next::Done;
        let mut missing: HashMap<String, Timestamp> = HashMap::new();
        for pod in &all {
            let name = pods::node(pod);
            if name.is_empty() {
                if pod.deleting() {
                    self.remove(pod, None).await?;
                }
                continue;
            }
            match nodes.get("", name) {
                Some(node) => {
                    if pod.deleting() && out_of_service(&node) {
                        self.remove(pod, None).await?;
                    }
                }
                None => {
                    let since = self.missing.lock().get(name).copied().unwrap_or(now);
                    missing.insert(name.into(), since);
                }
            }
        }
        *self.missing.lock() = missing.clone();
        for (name, since) in missing {
            let passed = now.as_second() - since.as_second();
            let passed = Duration::from_secs(u64::try_from(passed).unwrap_or(0));
            if passed < limits::NODE_MISSING {
                next = next.min(Next::After(limits::NODE_MISSING - passed));
                continue;
            }
            let live = self.client.all::<Node>().get_opt(&name).await;
            if live.during("get a missing node")?.is_some() {
                continue;
            }
            for pod in all.iter().filter(|p| pods::node(p) == name) {
                let why = ("DeletionByPodGC", "PodGC: node no longer exists");
                self.remove(pod, Some(why)).await?;
            }
        }
        Ok(next)
    }
}

impl PodGc {
    /// Ends a pod for the record, then deletes it without grace.
    async fn remove(&self, pod: &Pod, why: Option<(&str, &str)>) -> Result<(), Error> {
        if !pods::terminal(pod) {
            let mut patch: Value = match why {
                Some((reason, message)) => {
                    disruption_patch(pod, reason, message, self.clock.seconds())
                }
                None => json!({"metadata": {"uid": pod.uid()}}),
            };
            patch["status"]["phase"] = json!("Failed");
            let api = self.client.namespaced::<Pod>(pod.namespace());
            let params = act::patch_params();
            match api
                .patch_status(pod.name(), &params, &Patch::Strategic(&patch))
                .await
            {
                Err(e) if client::is_not_found(&e) => return Ok(()),
                done => {
                    done.during("mark the pod as failed")?;
                }
            }
        }
        let params = DeleteParams::default().grace_period(0);
        let done = act::delete::<Pod>(&self.client, pod.namespace(), pod.name(), &params).await;
        done.during("delete the pod")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evicted_pods_go_before_older_ones() {
        let pod = |name: &str, second: u8, reason: &str| -> Arc<Pod> {
            let v = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "status": {"phase": "Failed", "reason": reason}});
            Arc::new(serde_json::from_value(v).unwrap())
        };
        let all = [
            pod("old", 1, ""),
            pod("young", 3, ""),
            pod("evicted", 2, "Evicted"),
        ];
        let names: Vec<String> = surplus(&all, 1)
            .iter()
            .map(|p| p.name().to_string())
            .collect();
        assert_eq!(names, ["evicted", "old"]);
        assert!(surplus(&all, 3).is_empty());
    }
}
