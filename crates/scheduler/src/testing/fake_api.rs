//! An API server of a few lines over memory caches: bindings, status patches and deletions of pods,
//! creation of events. It keeps the rules the scheduler relies on.

use std::sync::Arc;

use client::Client;
use client::memory::MemoryReads;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use machinery::request::User;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The server's state. `events` are all events written so far.
pub struct FakeApi {
    pub reads: Arc<MemoryReads>,
    pub events: watch::Sender<Vec<Value>>,
    /// Whether objects of events are kept.
    pub keep_events: bool,
}

/// An answer: code and body.
type Answer = (u16, Value);

// === FakeApi ===

impl FakeApi {
    /// A server of these kinds.
    pub fn new(kinds: &[(&'static str, &'static str)], keep_events: bool) -> Arc<Self> {
        Arc::new(Self {
            reads: Arc::new(MemoryReads::new(kinds)),
            events: watch::channel(Vec::new()).0,
            keep_events,
        })
    }

    /// A client of this server.
    pub fn client(self: &Arc<Self>) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(std::io::Error::other)?;
                let body = body.to_bytes();
                let (code, answer) = api.answer(&parts.method, parts.uri.path(), &body);
                let response = Response::builder().status(code);
                response
                    .body(Body::from(answer.to_string().into_bytes()))
                    .map_err(std::io::Error::other)
            }
        });
        let kube = kube::Client::new(service, "default");
        Client::new(kube, self.reads.clone(), User::default())
    }

    /// Adds or replaces an object.
    pub fn put(&self, group: &'static str, plural: &'static str, object: Value) {
        let cache = self.reads.memory(group, plural).expect("a known kind");
        cache.apply(object).expect("an object");
    }

    /// A pod as it is now.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let entry = client::Cache::get(&**self.reads.memory("", "pods")?, namespace, name)?;
        entry.value().ok()
    }

    /// Removes a pod for good.
    pub fn delete_pod(&self, namespace: &str, name: &str) {
        let pods = self.reads.memory("", "pods").expect("a known kind");
        pods.delete(namespace, name);
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Answer {
        let body = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            (&Method::POST, ["api", "v1", "namespaces", _, "events"]) => {
                if self.keep_events {
                    self.events.send_modify(|all| all.push(body()));
                }
                (201, body())
            }
            (&Method::POST, ["api", "v1", "namespaces", ns, "pods", name, "binding"]) => {
                self.bind(ns, name, &body())
            }
            (&Method::PATCH, ["api", "v1", "namespaces", ns, "pods", name, "status"]) => {
                self.patch(ns, name, &body())
            }
            (&Method::PATCH, ["api", "v1", "persistentvolumes", name]) => {
                self.merge("persistentvolumes", "", name, &body())
            }
            (
                &Method::PATCH,
                [
                    "api",
                    "v1",
                    "namespaces",
                    ns,
                    "persistentvolumeclaims",
                    name,
                ],
            ) => self.merge("persistentvolumeclaims", ns, name, &body()),
            (&Method::DELETE, ["api", "v1", "namespaces", ns, "pods", name]) => {
                self.delete_pod(ns, name);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            _ => status(404, "NotFound", "no such path"),
        }
    }

    fn merge(&self, plural: &'static str, namespace: &str, name: &str, patch: &Value) -> Answer {
        let cache = self.reads.memory("", plural).expect("a known kind");
        let entry = client::Cache::get(&**cache, namespace, name);
        let Some(Ok(mut object)) = entry.map(|e| e.value()) else {
            return status(404, "NotFound", "object not found");
        };
        merge(&mut object, patch);
        self.put("", plural, object.clone());
        (200, object)
    }

    fn bind(&self, namespace: &str, name: &str, binding: &Value) -> Answer {
        let Some(mut pod) = self.pod(namespace, name) else {
            return status(404, "NotFound", "pod not found");
        };
        if pod["spec"]["nodeName"].is_string() {
            let text = format!(
                "pod {name} is already assigned to node {}",
                pod["spec"]["nodeName"]
            );
            return status(409, "Conflict", &text);
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        self.put("", "pods", pod);
        (201, json!({"kind": "Status", "status": "Success"}))
    }

    fn patch(&self, namespace: &str, name: &str, patch: &Value) -> Answer {
        let Some(mut pod) = self.pod(namespace, name) else {
            return status(404, "NotFound", "pod not found");
        };
        if pod["metadata"]["uid"] != patch["metadata"]["uid"] {
            return status(409, "Conflict", "the uid differs");
        }
        let conditions = patch["status"]["conditions"].as_array();
        for c in conditions.into_iter().flatten() {
            let all = &mut pod["status"]["conditions"];
            if !all.is_array() {
                *all = json!([]);
            }
            if let Some(all) = all.as_array_mut() {
                all.retain(|old| old["type"] != c["type"]);
                all.push(c.clone());
            }
        }
        match &patch["status"]["nominatedNodeName"] {
            Value::String(node) => pod["status"]["nominatedNodeName"] = json!(node),
            _ if patch["status"].get("nominatedNodeName").is_some() => {
                if let Some(status) = pod["status"].as_object_mut() {
                    status.remove("nominatedNodeName");
                }
            }
            _ => {}
        }
        self.put("", "pods", pod.clone());
        (200, pod)
    }
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message});
    (code, body)
}

fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().map(|o| o.remove(key));
        } else {
            merge(&mut object[key], value);
        }
    }
}
