//! Writes to the API: bindings, status patches, removal of victims. No decisions.

use std::collections::HashMap;
use std::sync::Arc;

use client::Client;
use client::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use futures::{StreamExt, stream};
use kube::core::Request;
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::events::Events;
use crate::limits;
use crate::pod::{Pod, PodKey};
use crate::world::World;

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Write(#[from] kube::Error),
    #[error("{0}")]
    Encode(#[from] serde_json::Error),
    #[error("{0}")]
    Request(#[from] kube::core::request::Error),
}

/// What is to change in a pod's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusPatch {
    pub uid: Arc<str>,
    pub condition: Option<Value>,
    /// `Some("")` clears it.
    pub nominated_node: Option<String>,
}

/// Writes status patches in the background, in order for each pod; of patches that wait the newer
/// goes over the older. Cheap to clone.
#[derive(Clone, Default)]
pub struct StatusWriter {
    waiting: Arc<Mutex<HashMap<PodKey, StatusPatch>>>,
    wake: Arc<Notify>,
}

fn pods(namespace: &str) -> Request {
    Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

/// Whether the same write may succeed when it is tried again.
fn may_pass(e: &Error) -> bool {
    match e {
        Error::Write(kube::Error::Api(s)) => matches!(s.code, 429 | 500 | 503),
        Error::Write(kube::Error::HyperError(_) | kube::Error::Service(_)) => true,
        _ => false,
    }
}

/// Sends a request, several times where it may help.
async fn send(
    client: &Client,
    request: impl Fn() -> Result<http::Request<Vec<u8>>, Error>,
    again: impl Fn(&Error) -> bool,
) -> Result<(), Error> {
    let mut wait = limits::WRITE_WAIT;
    let mut tries = 1;
    loop {
        let sent = client.kube().request::<IgnoredAny>(request()?).await;
        match sent.map_err(Error::from) {
            Ok(_) => return Ok(()),
            Err(e) if tries < limits::WRITE_TRIES && again(&e) => {
                tokio::time::sleep(wait).await;
                tries += 1;
                wait *= 5;
            }
            Err(e) => return Err(e),
        }
    }
}

/// DefaultBinder: binds a pod to a node.
pub async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), Error> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": &*pod.key.namespace, "name": &*pod.key.name, "uid": &*pod.uid},
        "target": {"kind": "Node", "name": node},
    });
    let body = serde_json::to_vec(&body)?;
    let request = || {
        let pods = pods(&pod.key.namespace);
        let made = pods.create_subresource(
            "binding",
            &pod.key.name,
            &PostParams::default(),
            body.clone(),
        );
        made.map_err(Error::from)
    };
    match send(client, request, may_pass).await {
        // An earlier try arrived although its answer did not.
        Err(Error::Write(kube::Error::Api(s)))
            if s.code == 409
                && s.message
                    .contains(&format!("already assigned to node \"{node}\"")) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Patches a pod's status.
pub async fn patch_status(client: &Client, key: &PodKey, patch: &StatusPatch) -> Result<(), Error> {
    let mut status = json!({});
    if let Some(condition) = &patch.condition {
        status["conditions"] = json!([condition]);
    }
    if let Some(node) = &patch.nominated_node {
        status["nominatedNodeName"] = if node.is_empty() {
            Value::Null
        } else {
            json!(node)
        };
    }
    let body = json!({"metadata": {"uid": &*patch.uid}, "status": status});
    let request = || {
        let (params, body) = (PatchParams::default(), Patch::Strategic(&body));
        let made = pods(&key.namespace).patch_subresource("status", &key.name, &params, &body);
        made.map_err(Error::from)
    };
    let again = |e: &Error| may_pass(e) || matches!(e, Error::Write(e) if client::is_conflict(e));
    send(client, request, again).await
}

/// Removes the victims that make room for a pod: all but the last at once, then the last, whose
/// deletion brings the waiting pod back. Gives whether all went well.
pub async fn preempt(
    world: Arc<World>,
    events: Events,
    pod: Arc<Pod>,
    victims: Vec<Arc<Pod>>,
    node: Arc<str>,
) -> bool {
    let mut all: Vec<&Arc<Pod>> = victims.iter().filter(|v| !v.deleting).collect();
    let last = all.pop();
    let one = |victim: Arc<Pod>| remove_victim(&world.client, &events, &pod, victim, &node);
    let removed: Vec<bool> = stream::iter(all.into_iter().cloned().map(one))
        .buffer_unordered(limits::PATCHES)
        .collect()
        .await;
    // Before the last: its deletion must find the pod free to be tried.
    world.preempting.lock().remove(&pod.uid);
    let last = match last {
        Some(victim) => one(victim.clone()).await,
        None => true,
    };
    last && removed.into_iter().all(|ok| ok)
}

async fn remove_victim(
    client: &Client,
    events: &Events,
    pod: &Pod,
    victim: Arc<Pod>,
    node: &str,
) -> bool {
    let scheduler = &pod.scheduler_name;
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "observedGeneration": victim.generation,
        "lastTransitionTime": now(),
    });
    let patch = StatusPatch {
        uid: victim.uid.clone(),
        condition: Some(condition),
        nominated_node: None,
    };
    let gone = |e: &Error| matches!(e, Error::Write(e) if client::is_not_found(e));
    if !victim.preempted {
        match patch_status(client, &victim.key, &patch).await {
            Ok(()) => {}
            Err(e) if gone(&e) => return true,
            Err(error) => {
                tracing::error!(victim = %victim.key, %error, "victim not marked");
                return false;
            }
        }
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(victim.uid.to_string()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let request = || {
        let made = pods(&victim.key.namespace).delete(&victim.key.name, &params);
        made.map_err(Error::from)
    };
    match send(client, request, may_pass).await {
        Ok(()) => {
            events.preempted(&victim, pod, node);
            true
        }
        Err(e) if gone(&e) || matches!(&e, Error::Write(e) if client::is_conflict(e)) => true,
        Err(error) => {
            tracing::error!(victim = %victim.key, %error, "victim not deleted");
            false
        }
    }
}

/// The time as conditions have it.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

// === StatusWriter ===

impl StatusWriter {
    /// Queues a patch.
    pub fn patch(&self, key: &PodKey, patch: StatusPatch) {
        let mut waiting = self.waiting.lock();
        match waiting.get_mut(key) {
            Some(old) if old.uid == patch.uid => {
                old.condition = patch.condition.or(old.condition.take());
                old.nominated_node = patch.nominated_node.or(old.nominated_node.take());
            }
            _ => {
                waiting.insert(key.clone(), patch);
            }
        }
        self.wake.notify_one();
    }

    /// Writes what is queued, for ever.
    pub async fn run(self, client: Client) {
        loop {
            let batch = std::mem::take(&mut *self.waiting.lock());
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            stream::iter(batch)
                .for_each_concurrent(limits::PATCHES, |(key, patch)| {
                    let client = &client;
                    async move {
                        match patch_status(client, &key, &patch).await {
                            Ok(()) => {}
                            Err(Error::Write(e)) if client::is_not_found(&e) => {}
                            Err(error) => {
                                tracing::warn!(pod = %key, %error, "pod status not patched");
                            }
                        }
                    }
                })
                .await;
        }
    }
}
