//! A whole kubelet against a fake API server and a fake runtime.

#![allow(clippy::unwrap_used)]

mod fake_api;
mod fake_runtime;
mod pods;
mod server;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use fake_api::FakeApi;
use fake_runtime::{FakeImages, FakeRuntime};
use kubelet::{Config, Parts};
use machinery::request::{Authenticator, Authorizer};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One node.
pub struct Env {
    pub api: FakeApi,
    pub runtime: Arc<FakeRuntime>,
    pub images: Arc<FakeImages>,
    pub dir: tempfile::TempDir,
    pub serving: Option<(u16, Arc<rustls::ServerConfig>)>,
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Env {
    pub fn unstarted() -> Self {
        Self {
            api: FakeApi::new(),
            runtime: FakeRuntime::new(),
            images: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
            serving: None,
            authenticators: Vec::new(),
            authorizers: Vec::new(),
            running: None,
        }
    }

    pub async fn start() -> Self {
        let mut env = Self::unstarted();
        env.run();
        env.ready().await;
        env
    }

    pub async fn ready(&self) {
        let is_ready = |n: Value| {
            let list = n["status"]["conditions"].as_array();
            list.is_some_and(|l| {
                l.iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            })
        };
        self.until("node", || {
            self.api.get("nodes", "", "n1").is_some_and(is_ready)
        })
        .await;
    }

    pub fn run(&mut self) {
        let root = self.dir.path().join("kubelet");
        let mut config = Config::new("n1", [127, 0, 0, 1].into(), root);
        config.pod_log_dir = self.dir.path().join("pods");
        config.container_log_dir = self.dir.path().join("containers");
        config.port = self.serving.as_ref().map(|(port, _)| *port);
        config.tls = self.serving.as_ref().map(|(_, tls)| tls.clone());
        // The machine that tests run on may be full.
        config.eviction = None;
        let parts = Parts {
            client: self.api.client(),
            runtime: self.runtime.clone(),
            images: self.images.clone(),
            authenticators: self.authenticators.clone(),
            authorizers: self.authorizers.clone(),
        };
        let (stop, down) = watch::channel(false);
        let task = tokio::spawn(async move {
            kubelet::run(config, parts, down).await.unwrap();
        });
        self.running = Some((stop, task));
    }

    /// Stops the kubelet and starts another.
    pub async fn restart(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.send_replace(true);
        task.await.unwrap();
        self.run();
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds() {
            let now = tokio::time::Instant::now();
            assert!(
                now < deadline,
                "{what}: {:#?}\n{:#?}",
                self.api.get("pods", "ns", "p"),
                self.api.events()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The pod `p`.
    pub fn pod(&self) -> Value {
        self.api.get("pods", "ns", "p").unwrap_or_default()
    }

    /// Waits until the pod `p` shows a phase.
    pub async fn phase(&self, phase: &str) {
        self.until(phase, || self.pod()["status"]["phase"] == phase)
            .await;
    }
}
