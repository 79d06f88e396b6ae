//! Pods leave nodes with NoExecute taints that they do not tolerate, or not for longer.
//! Upstream: pkg/controller/tainteviction.

use std::collections::HashMap;
use std::time::Duration;

use api::core::v1::{Node, Pod, Taint, Toleration};
use async_trait::async_trait;
use client::api::{DeleteParams, Patch};
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};
use serde_json::json;

use crate::common::object::Object;
use crate::common::{act, pods, taints};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    account: "node-controller",
    component: "taint-eviction-controller",
    needs: &[("", "nodes"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = TaintEviction {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        timers: Mutex::default(),
    };
    let pods = setup.client.clone();
    Reconciler::new("taint-eviction-controller", 8, this)
        .on(Trigger::map("", "pods", |e| {
            let bound = pods::node_of(e.entry).is_some();
            if bound {
                vec![Key::of(e.entry).into()]
            } else {
                Vec::new()
            }
        }))
        .on(Trigger::map("", "nodes", move |e| pods_of_node(&pods, e)))
}

/// A change of NoExecute taints concerns all pods of the node.
fn pods_of_node(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let now = e
        .typed::<Node>()
        .map(|n| no_execute(&n))
        .unwrap_or_default();
    let before = e
        .typed_before::<Node>()
        .map(|n| no_execute(&n))
        .unwrap_or_default();
    let same = e.before.is_some() && now == before;
    let (Ok(lister), false) = (client.lister::<Pod>(), same) else {
        return Vec::new();
    };
    let all = lister.cache().list(None);
    all.iter()
        .filter(|p| pods::node_of(p) == Some(&*e.entry.name))
        .map(|p| Key::of(p).into())
        .collect()
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let all = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    all.filter(|t| t.effect == "NoExecute").cloned().collect()
}

struct TaintEviction {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    /// When a pod goes, by UID.
    timers: Mutex<HashMap<String, Timestamp>>,
}

/// How long a pod may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    For(i64),
    Not,
}

fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    if taints.is_empty() {
        return Stay::Forever;
    }
    if taints::untolerated(taints, tolerations).is_some() {
        return Stay::Not;
    }
    let used = tolerations
        .iter()
        .filter(|t| taints.iter().any(|taint| taints::tolerates(t, taint)));
    match used.filter_map(|t| t.toleration_seconds).min() {
        None => Stay::Forever,
        Some(seconds) if seconds <= 0 => Stay::Not,
        Some(seconds) => Stay::For(seconds),
    }
}

#[async_trait]
impl Reconcile for TaintEviction {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let found = self.client.lister::<Pod>()?.get(&key.namespace, &key.name);
        let Some(pod) = found.filter(|p| !p.deleting() && !pods::terminal(p)) else {
            return Ok(Next::Done);
        };
        let node = self.client.lister::<Node>()?.get("", pods::node(&pod));
        let taints = node.map(|n| no_execute(&n)).unwrap_or_default();
        let spec = pod.spec.as_ref();
        let tolerations = spec.and_then(|s| s.tolerations.clone()).unwrap_or_default();
        let now = self.clock.now();
        let due = match stay(&taints, &tolerations) {
            Stay::Forever => {
                if self.timers.lock().remove(pod.uid()).is_some() {
                    self.tell(&pod, "Cancelling deletion of Pod");
                }
                return Ok(Next::Done);
            }
            Stay::Not => now,
            Stay::For(seconds) => {
                let mut timers = self.timers.lock();
                // A timer that runs keeps its time, whatever the tolerations become.
                let at = timers.entry(pod.uid().into()).or_insert_with(|| {
                    let end = now.as_second().saturating_add(seconds);
                    Timestamp::from_second(end).unwrap_or(Timestamp::MAX)
                });
                *at
            }
        };
        let left = due.as_nanosecond() - now.as_nanosecond();
        if let Some(left) = u64::try_from(left).ok().filter(|n| *n > 0) {
            return Ok(Next::After(Duration::from_nanos(left)));
        }
        self.evict(&pod).await?;
        self.timers.lock().remove(pod.uid());
        Ok(Next::Done)
    }
}

impl TaintEviction {
    fn tell(&self, pod: &Pod, what: &str) {
        let message = format!("{what} {}/{}", pod.namespace(), pod.name());
        let reason = "TaintManagerEviction";
        self.recorder
            .event(reference(pod), EventType::Normal, reason, &message);
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        self.tell(pod, "Marking for deletion Pod");
        let api = self.client.namespaced::<Pod>(pod.namespace());
        let patch = disruption_patch(
            pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            self.clock.seconds(),
        );
        let params = act::patch_params();
        match api
            .patch_status(pod.name(), &params, &Patch::Strategic(&patch))
            .await
        {
            Err(e) if client::is_not_found(&e) => return Ok(()),
            done => {
                done.during("mark the pod as disrupted")?;
            }
        }
        let params = DeleteParams {
            preconditions: client::only_uid(pod.uid()),
            ..DeleteParams::default()
        };
        let done = act::delete::<Pod>(&self.client, pod.namespace(), pod.name(), &params).await;
        done.during("delete the pod")
    }
}

/// A status patch that says why a pod is disrupted.
pub fn disruption_patch(
    pod: &Pod,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> serde_json::Value {
    json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "observedGeneration": pod.metadata.generation,
            "lastTransitionTime": now.to_string()}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_decide_how_long_a_pod_stays() {
        let taint = |key: &str| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            ..Taint::default()
        };
        let tolerate = |key: &str, seconds| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let (a, b) = (taint("a"), taint("b"));
        assert_eq!(stay(&[], &[]), Stay::Forever);
        assert_eq!(stay(std::slice::from_ref(&a), &[]), Stay::Not);
        assert_eq!(
            stay(std::slice::from_ref(&a), &[tolerate("a", None)]),
            Stay::Forever
        );
        let both = [a, b];
        assert_eq!(stay(&both, &[tolerate("a", Some(5))]), Stay::Not);
        assert_eq!(
            stay(&both, &[tolerate("a", Some(5)), tolerate("b", Some(3))]),
            Stay::For(3)
        );
        assert_eq!(
            stay(&both, &[tolerate("a", None), tolerate("b", Some(0))]),
            Stay::Not
        );
    }
}
