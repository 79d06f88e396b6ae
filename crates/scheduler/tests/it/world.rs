//! An API server on SQLite with RBAC and a scheduler.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Identity, Plugins, Server};
use client::Client;
use http::Request;
use machinery::GroupResource;
use machinery::request::User;
use serde_json::{Value, json};
use store::Store;
use store::sqlite::Sqlite;
use tokio::sync::watch;

pub struct World {
    server: Server,
    client: Client,
    shutdown: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

const DEADLINE: Duration = Duration::from_secs(60);

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        self.server.shutdown();
    }
}

impl World {
    /// A cluster with the namespace `d` and no nodes.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tell, _fatal) = tokio::sync::oneshot::channel();
        let store = Store::new(Sqlite::open(&dir.path().join("state.db"), tell).unwrap());
        let identity = Identity {
            git_version: "v1.37.0+k0s".into(),
            git_commit: "test".into(),
            build_date: "1970-01-01T00:00:00Z".into(),
        };
        let server = Server::new(
            store,
            resources::all(&resources::Options::default()),
            identity,
        )
        .await
        .unwrap();
        let rbac = Arc::new(auth::Rbac::new(server.reads()));
        server.install(Plugins {
            authorizers: vec![Arc::new(auth::masters::Masters), rbac],
            ..Plugins::default()
        });
        let world = Self {
            client: server.client_for(User::new("test", &["system:masters"])),
            server,
            shutdown: watch::channel(false).0,
            _dir: dir,
        };
        for object in auth::bootstrap::objects() {
            let plural = match object["kind"].as_str().unwrap() {
                "ClusterRole" => "clusterroles",
                "ClusterRoleBinding" => "clusterrolebindings",
                "Role" => "roles",
                _ => "rolebindings",
            };
            world.create(plural, object).await;
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}});
        world.create("namespaces", namespace).await;
        let user = User::new("system:kube-scheduler", &["system:authenticated"]);
        let scheduler = scheduler::run(
            world.server.client_for(user),
            scheduler::Config::new("host"),
            world.shutdown.subscribe(),
        );
        tokio::spawn(async move { scheduler.await.unwrap() });
        world
    }

    async fn send(&self, method: &str, path: &str, content: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .body(body.to_string().into_bytes())
            .unwrap();
        let answer = self.client.kube().request::<Value>(request).await;
        answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    pub async fn create(&self, plural: &str, object: Value) -> Value {
        let api = object["apiVersion"].as_str().unwrap();
        let root = if api.contains('/') { "/apis" } else { "/api" };
        let path = match object["metadata"]["namespace"].as_str() {
            Some(ns) => format!("{root}/{api}/namespaces/{ns}/{plural}"),
            None => format!("{root}/{api}/{plural}"),
        };
        self.send("POST", &path, "application/json", &object).await
    }

    pub async fn patch(&self, path: &str, patch: &Value) -> Value {
        self.send("PATCH", path, "application/merge-patch+json", patch)
            .await
    }

    /// A ready node with so many CPUs.
    pub async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.create("nodes", node).await;
        let amounts = json!({"cpu": cpu, "memory": "8Gi", "pods": "110"});
        let status = json!({"status": {"capacity": amounts, "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        self.patch(&format!("/api/v1/nodes/{name}/status"), &status)
            .await;
    }

    /// What a kubelet and a controller do at the end: the pod goes for good.
    pub async fn finish(&self, name: &str) {
        let path = format!("/api/v1/namespaces/d/pods/{name}");
        let none = json!({"metadata": {"finalizers": null}});
        self.patch(&path, &none).await;
        let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        self.send("DELETE", &path, "application/json", &now).await;
    }

    /// Waits for an object of a cache.
    async fn wait(
        &self,
        plural: &'static str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let cache = self.client.cache(&GroupResource::new("", plural)).unwrap();
        let mut changes = cache.subscribe().changes;
        let found = async {
            loop {
                let all = cache.list(Some("d"));
                let found = all.iter().map(|e| e.value().unwrap()).find(|v| wanted(v));
                if let Some(found) = found {
                    return found;
                }
                changes.recv().await;
            }
        };
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(found) => found,
            Err(_) => {
                let all = cache.list(Some("d"));
                let all: Vec<Value> = all.iter().map(|e| e.value().unwrap()).collect();
                panic!("{what} never came: {}", json!(all))
            }
        }
    }

    /// Waits until a pod is as wanted.
    pub async fn pod(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is = |p: &Value| p["metadata"]["name"] == name && wanted(p);
        self.wait("pods", name, is).await
    }

    /// Waits for an event about a pod.
    pub async fn event(&self, reason: &str, pod: &str) -> Value {
        let is = |e: &Value| e["reason"] == reason && e["involvedObject"]["name"] == pod;
        self.wait("events", reason, is).await
    }
}

/// A condition of a pod.
pub fn condition(pod: &Value, kind: &str) -> Value {
    let all = pod["status"]["conditions"].as_array();
    let mut all = all.into_iter().flatten();
    all.find(|c| c["type"] == kind).cloned().unwrap_or_default()
}
