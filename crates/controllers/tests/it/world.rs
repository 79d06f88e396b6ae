//! A control plane without nodes: the API server on SQLite with RBAC, all controllers under their own
//! identities, and something that plays kubelet.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Identity, Plugins, Server};
use auth::identity;
use client::Client;
use controllers::{Context, Facts};
use http::Request;
use machinery::GroupResource;
use machinery::request::User;
use reconciler::{Board, Clock};
use serde_json::{Value, json};
use store::Store;
use store::sqlite::Sqlite;
use tokio::sync::watch;

/// Everything of one test's cluster.
pub struct World {
    server: Server,
    pub client: Client,
    shutdown: watch::Sender<bool>,
    pub board: Board,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        self.server.shutdown();
    }
}

/// The CA that the facts name.
pub const ROOT_CA: &str = "-----BEGIN CERTIFICATE-----\ntest\n-----END CERTIFICATE-----\n";

impl World {
    /// A cluster with the namespace `d`, all controllers running.
    pub async fn start() -> Self {
        let world = Self::without_controllers().await;
        world.run_controllers();
        world
    }

    pub async fn without_controllers() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tell, _fatal) = tokio::sync::oneshot::channel();
        let store = Store::new(Sqlite::open(&dir.path().join("state.db"), tell).unwrap());
        let identity = Identity {
            git_version: "v1.37.0+k0s".into(),
            git_commit: "test".into(),
            build_date: "1970-01-01T00:00:00Z".into(),
        };
        let options = resources::Options::default();
        let server = Server::new(store, resources::all(&options), identity)
            .await
            .unwrap();
        options.reads.set(server.reads());
        let rbac = Arc::new(auth::Rbac::new(server.reads()));
        server.install(Plugins {
            authorizers: vec![Arc::new(auth::masters::Masters), rbac],
            ..Plugins::default()
        });
        let client = server.client_for(User::new("test", &["system:masters"]));
        let world = Self {
            server,
            client,
            shutdown: watch::channel(false).0,
            board: Board::default(),
            _dir: dir,
        };
        for object in auth::bootstrap::objects() {
            world.create(&object).await;
        }
        for name in ["kube-system", "d"] {
            let ns = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            world.create(&ns).await;
        }
        world
    }

    pub fn run_controllers(&self) {
        let server = self.server.clone();
        let context = Context {
            client_for: Arc::new(move |name| {
                server.client_for(match name {
                    "" => identity::controller_manager(),
                    name => identity::controller(name),
                })
            }),
            facts: Arc::new(Facts {
                root_ca: ROOT_CA.into(),
                cluster_cidrs: vec!["10.244.0.0/16".into()],
                node_mask_v4: 24,
                node_mask_v6: 64,
                service_cidrs: vec!["10.96.0.0/12".into()],
            }),
            clock: Clock::system(),
            leader: watch::channel(true).1,
            shutdown: self.shutdown.subscribe(),
            board: self.board.clone(),
        };
        let key = pki::key::generate().unwrap().serialize_pem();
        let tokens = pki::TokenSigner::new(&key, "https://issuer").unwrap();
        let signing = controllers::Signing {
            ca: None,
            tokens: Some(Arc::new(tokens)),
        };
        tokio::spawn(controllers::run(context, signing));
    }

    /// The path of an object's collection.
    fn collection(&self, object: &Value) -> String {
        let api = object["apiVersion"].as_str().unwrap();
        let kind = object["kind"].as_str().unwrap();
        let group = api.split_once('/').map_or("", |(g, _)| g);
        let all = self.client.reads().resources();
        let d = all.iter().find(|d| d.kind == kind && d.group == group);
        let d = d.unwrap_or_else(|| panic!("{api} {kind} is not served"));
        let root = if group.is_empty() { "/api" } else { "/apis" };
        if d.namespaced() {
            let ns = object["metadata"]["namespace"].as_str().unwrap_or("d");
            format!("{root}/{api}/namespaces/{ns}/{}", d.resource)
        } else {
            format!("{root}/{api}/{}", d.resource)
        }
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .body(body)
            .unwrap();
        let answer = self.client.kube().request::<Value>(request).await;
        answer.map_err(|e| client::message(&e))
    }

    pub async fn create(&self, object: &Value) -> Value {
        let path = self.collection(object);
        let made = self.send("POST", &path, "application/json", object).await;
        made.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Deletes by path, with a policy.
    pub async fn delete(&self, path: &str, policy: &str) {
        let options = json!({"propagationPolicy": policy});
        let done = self
            .send("DELETE", path, "application/json", &options)
            .await;
        done.unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Merges a patch; tries again when a controller was faster.
    pub async fn merge(&self, path: &str, patch: &Value) -> Value {
        const CONTENT: &str = "application/merge-patch+json";
        for _ in 0..50 {
            match self.send("PATCH", path, CONTENT, patch).await {
                Ok(done) => return done,
                Err(e) if e.contains("the object has been modified") => {}
                Err(e) => panic!("{path}: {e}"),
            }
        }
        panic!("{path}: conflicts without end")
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        self.send("GET", path, "application/json", &Value::Null)
            .await
            .ok()
    }

    /// Objects of a resource in namespace `d` (or of the cluster).
    pub fn list(&self, group: &'static str, resource: &'static str) -> Vec<Value> {
        let cache = self
            .client
            .cache(&GroupResource::new(group, resource))
            .unwrap();
        cache
            .list(None)
            .iter()
            .map(|e| e.value().unwrap())
            .filter(|v| v["metadata"]["namespace"].is_null() || v["metadata"]["namespace"] == "d")
            .collect()
    }

    /// Asks until `done` likes what it sees.
    pub async fn until<T>(&self, what: &str, done: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what} did not come; {:#?}",
                self.board
                    .numbers()
                    .iter()
                    .filter(|n| n.failures > 0)
                    .collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Plays kubelet: pods run and are ready at once, and end when they are deleted.
    pub fn play_kubelet(&self) {
        self.play(|pod| {
            (pod["status"]["phase"] != "Running").then(|| {
                json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": jiff::Timestamp::now().to_string()}]}})
            })
        });
    }

    /// Plays kubelet with another idea of what a live pod's status should be.
    pub fn play(&self, status: impl Fn(&Value) -> Option<Value> + Send + 'static) {
        let client = self.client.clone();
        let mut shutdown = self.shutdown.subscribe();
        let work = async move {
            let cache = client.cache(&GroupResource::new("", "pods")).unwrap();
            loop {
                let mut sub = cache.subscribe();
                for entry in cache.list(None) {
                    let pod = entry.value().unwrap();
                    let path =
                        format!("/api/v1/namespaces/{}/pods/{}", entry.namespace, entry.name);
                    let deleting = !pod["metadata"]["deletionTimestamp"].is_null();
                    let request = if deleting {
                        let body = json!({"gracePeriodSeconds": 0}).to_string();
                        Some(("DELETE", path, "application/json", body))
                    } else {
                        status(&pod).map(|s| {
                            (
                                "PATCH",
                                format!("{path}/status"),
                                "application/merge-patch+json",
                                s.to_string(),
                            )
                        })
                    };
                    let Some((method, path, content, body)) = request else {
                        continue;
                    };
                    let request = Request::builder()
                        .method(method)
                        .uri(path)
                        .header("content-type", content)
                        .body(body.into_bytes())
                        .unwrap();
                    // A pod that is gone meanwhile is seen so in the next round.
                    let _ = client.kube().request::<Value>(request).await;
                }
                if sub.changes.recv().await.is_none() {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = shutdown.wait_for(|end| *end) => {}
            }
        });
    }
}

/// A deployment of one container.
pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

/// The number of objects.
pub fn names(all: &[Value]) -> Vec<String> {
    all.iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap().to_string())
        .collect()
}
