//! Nodes that stop telling how they are: conditions become unknown, taints keep pods away or drive them
//! out. Upstream: pkg/controller/nodelifecycle. Each node is looked at when it or its lease changes
//! and when its grace period ends, not every 5 s.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::Lease;
use api::core::v1::{Node, Pod};
use async_trait::async_trait;
use client::api::Patch;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use jiff::Timestamp;
use parking_lot::Mutex;
use reconciler::{Clock, During, Error, Key, Next, Reconcile, Reconciler, Trigger};
use serde_json::{Value, json};

use self::plan::Health;
use crate::common::object::Object;
use crate::common::{act, pods};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "node-lifecycle-controller",
    account: "node-controller",
    component: "node-controller",
    needs: &[
        ("", "nodes"),
        ("", "pods"),
        ("coordination.k8s.io", "leases"),
    ],
    build: |setup| Ok(build(setup)),
};

/// Where kubelets renew their leases.
const LEASES: &str = "kube-node-lease";

fn build(setup: &Setup) -> Reconciler {
    let this = Lifecycle {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        known: Mutex::default(),
    };
    let nodes = setup.client.clone();
    Reconciler::new("node-lifecycle-controller", 8, this)
        .on(Trigger::own("", "nodes"))
        .on(Trigger::map("coordination.k8s.io", "leases", |e| {
            if &*e.entry.namespace == LEASES {
                vec![Key::new("", &e.entry.name).into()]
            } else {
                Vec::new()
            }
        }))
        .on(Trigger::map("", "pods", move |e| {
            // A pod newly bound to a node that is not ready cannot be ready.
            let Some(node) = pods::node_of(e.entry).filter(|_| !e.deleted()) else {
                return Vec::new();
            };
            let known = nodes.lister::<Node>().ok().and_then(|n| n.get("", node));
            let unready = known.is_some_and(|n| plan::takes_pods_down(&n));
            let ready = unready && e.typed::<Pod>().is_some_and(|p| pods::ready(&p));
            if ready {
                vec![Key::new("", node).into()]
            } else {
                Vec::new()
            }
        }))
}

struct Lifecycle {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    nodes: HashMap<String, Health>,
    /// When the last node of a zone was tainted.
    tainted: HashMap<String, Timestamp>,
}

#[async_trait]
impl Reconcile for Lifecycle {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let nodes = self.client.lister::<Node>()?;
        let Some(node) = nodes.get("", &key.name) else {
            if self.known.lock().nodes.remove(&*key.name).is_some() {
                self.tell_gone(key);
            }
            return Ok(Next::Done);
        };
        let now = self.clock.now();
        let lease = self.client.lister::<Lease>()?.get(LEASES, &key.name);
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref().map(|t| t.0));
        let (health, new) = self.probe(&node, renewed, now);
        if new {
            self.event(
                &node,
                "RegisteredNode",
                &format!("Registered Node {} in Controller", key.name),
            );
        }
        let left = plan::grace_left(&node, &health, now);
        if left.is_none() && self.lose(&node, now).await? {
            // The new conditions come back as a change of the node.
            return Ok(Next::Done);
        }
        if plan::takes_pods_down(&node) {
            self.pods_unready(&node, health.was_ready).await?;
        }
        let evict = self.refresh(&node, &nodes.list(None), now).await?;
        Ok(Next::from(left).min(evict))
    }
}

impl Lifecycle {
    /// Notes signs of life; tells whether the node is new here.
    fn probe(&self, node: &Node, renewed: Option<Timestamp>, now: Timestamp) -> (Health, bool) {
        let mut known = self.known.lock();
        let before = known.nodes.get(node.name()).cloned();
        let health = plan::probed(before.as_ref(), node, renewed, now);
        known.nodes.insert(node.name().into(), health.clone());
        (health, before.is_none())
    }

    fn event(&self, node: &Node, reason: &str, what: &str) {
        let message = format!("Node {} event: {what}", node.name());
        let mut about = reference(node);
        about.uid = node.metadata.uid.clone();
        self.recorder
            .event(about, EventType::Normal, reason, &message);
    }

    fn tell_gone(&self, key: &Key) {
        let about = api::core::v1::ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(key.name.to_string()),
            uid: Some(key.name.to_string()),
            ..Default::default()
        };
        let name = &key.name;
        let message = format!("Node {name} event: Removing Node {name} from Controller");
        self.recorder
            .event(about, EventType::Normal, "RemovingNode", &message);
    }

    /// The grace period is over: what the node said no longer holds. False where that is said already.
    async fn lose(&self, node: &Node, now: Timestamp) -> Result<bool, Error> {
        let conditions = plan::lost_conditions(node, now);
        if conditions.is_empty() {
            return Ok(false);
        }
        let patch = json!({"status": {"conditions": conditions}});
        let api = self.client.all::<Node>();
        let params = act::patch_params();
        let done = api
            .patch_status(node.name(), &params, &Patch::Strategic(&patch))
            .await;
        match done {
            Err(e) if client::is_not_found(&e) => {}
            done => {
                done.during("update the node's conditions")?;
            }
        }
        Ok(true)
    }

    /// Pods of a node that is not ready are not ready.
    async fn pods_unready(&self, node: &Node, was_ready: bool) -> Result<(), Error> {
        if was_ready {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.recorder
                .event(reference(node), EventType::Normal, "NodeNotReady", &message);
        }
        let lister = self.client.lister::<Pod>()?;
        let theirs = lister.select(None, |e| pods::node_of(e) == Some(node.name()));
        let now = self.clock.seconds().to_string();
        for pod in theirs.iter().filter(|p| pods::ready(p)) {
            let patch = json!({"status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": now}]}});
            let message = "Node is not ready";
            self.recorder.event(
                reference(&**pod),
                EventType::Warning,
                "NodeNotReady",
                message,
            );
            let api = self.client.namespaced::<Pod>(pod.namespace());
            let params = act::patch_params();
            let done = api
                .patch_status(pod.name(), &params, &Patch::Strategic(&patch))
                .await;
            match done {
                Err(e) if client::is_not_found(&e) => {}
                done => {
                    done.during("mark a pod not ready")?;
                }
            }
        }
        Ok(())
    }

    /// Labels and taints as conditions and zones ask for; tells when a taint that waits is due.
    async fn refresh(&self, node: &Node, all: &[Arc<Node>], now: Timestamp) -> Result<Next, Error> {
        let mut next = Next::Done;
        let mut evicting = plan::eviction(node, all);
        if let Some(rate) = evicting.new_taint_rate(node) {
            match self.may_taint(node, rate, now) {
                Ok(()) => {}
                Err(wait) => {
                    evicting = plan::Eviction::Leave;
                    next = wait.map_or(Next::Done, Next::After);
                }
            }
        }
        let mut patch = json!({});
        if let Some(labels) = plan::labels(node) {
            patch["metadata"]["labels"] = json!(labels);
        }
        if let Some(taints) = plan::taints(node, evicting, now) {
            patch["spec"]["taints"] = if taints.is_empty() {
                Value::Null
            } else {
                json!(taints)
            };
        }
        if patch.as_object().is_some_and(|p| !p.is_empty()) {
            let version = node.metadata.resource_version.clone();
            patch["metadata"]["resourceVersion"] = json!(version);
            let api = self.client.all::<Node>();
            match api
                .patch(node.name(), &act::patch_params(), &Patch::Merge(&patch))
                .await
            {
                Err(e) if client::is_not_found(&e) => {}
                done => {
                    done.during("update the node's taints")?;
                }
            }
        }
        Ok(next)
    }

    /// Takes a turn of a zone; `Err` says how long until the next one, or that there is none.
    fn may_taint(&self, node: &Node, rate: f64, now: Timestamp) -> Result<(), Option<Duration>> {
        if rate <= 0.0 {
            return Err(None);
        }
        let pause = Duration::from_secs_f64(1.0 / rate);
        let mut known = self.known.lock();
        let zone = plan::zone(node);
        if let Some(last) = known.tainted.get(&zone) {
            let passed = now.as_nanosecond() - last.as_nanosecond();
            let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(0));
            if passed < pause {
                return Err(Some(pause - passed));
            }
        }
        known.tainted.insert(zone, now);
        Ok(())
    }
}
