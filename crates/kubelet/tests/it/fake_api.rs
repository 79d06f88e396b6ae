//! An API server in a few lines: objects in memory caches, the verbs that a kubelet uses.

use std::convert::Infallible;
use std::sync::Arc;

use client::Client;
use client::memory::MemoryReads;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use machinery::request::User;
use parking_lot::Mutex;
use serde_json::{Value, json};

const RESOURCES: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "services"),
    ("", "nodes"),
    ("", "events"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("coordination.k8s.io", "leases"),
];

/// The objects, and what was asked.
#[derive(Clone)]
pub struct FakeApi {
    pub reads: Arc<MemoryReads>,
    /// `PATCH pods/status web` and the like.
    pub calls: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    pub fn new() -> Self {
        Self {
            reads: Arc::new(MemoryReads::new(RESOURCES)),
            calls: Arc::default(),
        }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        let user = User::new("system:node:n1", &["system:nodes"]);
        Client::new(
            kube::Client::new(service, "default"),
            self.reads.clone(),
            user,
        )
    }

    fn cache(&self, resource: &str) -> &Arc<client::memory::MemoryCache> {
        let group = if resource == "leases" {
            "coordination.k8s.io"
        } else {
            ""
        };
        let known = RESOURCES
            .iter()
            .find(|(g, r)| *g == group && *r == resource);
        let (group, resource) = known.unwrap_or_else(|| panic!("no {resource}"));
        self.reads.memory(group, resource).unwrap()
    }

    /// Makes or replaces an object.
    pub fn put(&self, resource: &str, object: Value) {
        self.cache(resource).apply(object).unwrap();
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        use client::Cache;
        Some(self.cache(resource).get(namespace, name)?.value().unwrap())
    }

    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.cache(resource).delete(namespace, name);
    }

    /// Asks a pod's kubelet to end it.
    pub fn delete_pod(&self, name: &str, grace: i64) {
        let mut pod = self.get("pods", "ns", name).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put("pods", pod);
    }

    /// `reason: message` of all events.
    pub fn events(&self) -> Vec<String> {
        use client::Cache;
        let all = self.cache("events").list(None);
        all.iter()
            .map(|e| e.value().unwrap())
            .map(|e| {
                format!(
                    "{}: {}",
                    e["reason"].as_str().unwrap(),
                    e["message"].as_str().unwrap()
                )
            })
            .collect()
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let rest = if path[0] == "api" {
            &path[2..]
        } else {
            &path[3..]
        };
        let (ns, rest) = match rest {
            ["namespaces", ns, rest @ ..] if !rest.is_empty() => (*ns, rest),
            rest => ("", rest),
        };
        let resource = rest[0];
        let name = rest.get(1).copied().unwrap_or_default();
        let sub = rest.get(2).copied().unwrap_or_default();
        self.calls
            .lock()
            .push(format!("{} {resource}/{sub} {name}", parts.method));
        if sub == "token" {
            let token = format!("token-of-{name}");
            return answer(
                201,
                &json!({"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{},
                "spec":{"audiences":[]},"status":{"token":token,"expirationTimestamp":"2126-01-01T00:00:00Z"}}),
            );
        }
        let before = self.get(resource, ns, name);
        let value = || serde_json::from_slice::<Value>(&body).unwrap();
        match (&parts.method, before) {
            (&Method::POST, _) => self.create(resource, ns, value()),
            (_, None) => refuse(404, "NotFound"),
            (&Method::GET, Some(before)) => answer(200, &before),
            (&Method::PUT, Some(_)) => self.keep(resource, value()),
            (&Method::PATCH, Some(before)) => {
                let kind = match resource {
                    "pods" => "Pod",
                    "nodes" => "Node",
                    _ => "Event",
                };
                let after = machinery::patch::strategic("", "v1", kind, &before, &body).unwrap();
                if after["metadata"]["uid"] != before["metadata"]["uid"] {
                    return refuse(409, "Conflict");
                }
                self.keep(resource, after)
            }
            (&Method::DELETE, Some(before)) => {
                assert!(matches!(
                    before["status"]["phase"].as_str(),
                    Some("Failed" | "Succeeded")
                ));
                self.remove(resource, ns, name);
                answer(200, &before)
            }
            (m, _) => panic!("{m} is not served"),
        }
    }

    fn create(&self, resource: &str, ns: &str, mut object: Value) -> Response<Body> {
        let name = object["metadata"]["name"].as_str().unwrap().to_string();
        if self.get(resource, ns, &name).is_some() {
            return refuse(409, "AlreadyExists");
        }
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        self.keep(resource, object)
    }

    fn keep(&self, resource: &str, object: Value) -> Response<Body> {
        let revision = self.cache(resource).apply(object.clone()).unwrap();
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        answer(200, &object)
    }
}

fn answer(code: u16, value: &Value) -> Response<Body> {
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .header("content-type", "application/json")
        .body(Body::from(value.to_string().into_bytes()))
        .unwrap()
}

fn refuse(code: u16, reason: &str) -> Response<Body> {
    answer(
        code,
        &json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":reason,"reason":reason,"code":code}),
    )
}
