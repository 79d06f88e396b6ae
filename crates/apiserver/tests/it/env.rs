//! A running server: SQLite in a temporary folder, the project's own PKI, authenticators and resources.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use apiserver::connect::kubelet::KubeletClient;
use apiserver::{Identity, Lanes, Plugins, Server, Tls};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::Request;
use machinery::request::User;
use pki::{Pki, PkiOptions};
use serde_json::Value;
use store::Store;
use store::sqlite::Sqlite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// A server and a client that may do everything.
pub struct Env {
    server: Server,
    pub client: client::Client,
    kubeconfig: PathBuf,
    pub pki: Pki,
    pub address: std::net::SocketAddr,
    _dir: tempfile::TempDir,
    _store: Option<tempfile::TempDir>,
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        self.server.shutdown();
    }
}

impl Env {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Self::over(sqlite(dir.path())).await;
        env._store = Some(dir);
        env
    }

    /// A server with other plugins than most tests need.
    pub async fn with(change: impl FnOnce(&mut Plugins)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Self::build(sqlite(dir.path()), resources::Options::default(), change).await;
        env._store = Some(dir);
        env
    }

    /// A server over a store that may have objects already.
    pub async fn over(store: Store) -> Self {
        Self::build(store, resources::Options::default(), |_| {}).await
    }

    /// Such a server with other plugins.
    pub async fn over_with(store: Store, change: impl FnOnce(&mut Plugins)) -> Self {
        Self::build(store, resources::Options::default(), change).await
    }

    /// A server that serves what `--runtime-config` says.
    pub async fn serving(runtime_config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = resources::Options {
            enablement: resources::Enablement::parse(runtime_config).unwrap(),
            ..resources::Options::default()
        };
        let mut env = Self::build(sqlite(dir.path()), options, |_| {}).await;
        env._store = Some(dir);
        env
    }

    async fn build(
        store: Store,
        options: resources::Options,
        change: impl FnOnce(&mut Plugins),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            git_version: "v1.37.0+k0s".into(),
            git_commit: "test".into(),
            build_date: "1970-01-01T00:00:00Z".into(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://127.0.0.1:{}", address.port());
        let pki = Pki::ensure(&PkiOptions {
            dir: dir.path().join("pki"),
            sans: vec!["127.0.0.1".into()],
            cluster_domain: "cluster.local".into(),
            service_ips: vec![IpAddr::from([10, 96, 0, 1])],
            server_url: url.clone(),
            issuer: "https://kubernetes.default.svc".into(),
            audiences: Vec::new(),
            etcd_peer: None,
        })
        .unwrap();
        let mut descriptors = resources::all(&options);
        for d in crate::fakes::descriptors() {
            if !descriptors
                .iter()
                .any(|k| k.group == d.group && k.resource == d.resource)
            {
                descriptors.push(d);
            }
        }
        let server = Server::new(store, descriptors, identity).await.unwrap();
        options.reads.set(server.reads());
        let kubelet = pki.leaf("apiserver-kubelet-client").unwrap();
        let kubelet = KubeletClient::new(
            server.reads(),
            vec![pki.ca.der().clone()],
            kubelet.chain().unwrap(),
            kubelet.key().unwrap(),
        );
        let mut plugins = Plugins {
            authenticators: vec![Arc::new(auth::x509::X509::default())],
            authorizers: vec![Arc::new(auth::masters::Masters)],
            connectors: apiserver::connect::kubelet::all(kubelet.unwrap()),
            creators: resources::creators(
                &server.client_for(User::new("system:apiserver", &["system:masters"])),
            )
            .into_iter()
            .map(|e| {
                let target = (e.group.into(), e.resource.into(), e.subresource.into());
                (target, e.creator)
            })
            .collect(),
            ..Plugins::default()
        };
        change(&mut plugins);
        server.install(plugins);
        let tls = Tls {
            chain: pki.server().chain().unwrap(),
            key: pki.server().key().unwrap(),
            client_cas: vec![pki.ca.der().clone()],
            proxy_cas: Vec::new(),
        };
        let acceptor = tls.acceptor().unwrap();
        let lanes = Lanes::start().unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener, acceptor, lanes).await });
        let kubeconfig = dir.path().join("admin.conf");
        std::fs::write(&kubeconfig, pki.kubeconfig(&url, pki.admin())).unwrap();
        let client = server.client_for(User::new("test", &["system:masters"]));
        let env = Self {
            server,
            client,
            kubeconfig,
            pki,
            address,
            _dir: dir,
            _store: None,
        };
        let ns = serde_json::json!({"metadata": {"name": "default"}});
        let made = env.post("/api/v1/namespaces", &ns).await;
        assert!([201, 409].contains(&made.code), "{made:?}");
        env
    }

    /// Has the server serve what other servers serve.
    pub fn aggregate(&self) {
        let proxy = self.pki.leaf("front-proxy-client").unwrap();
        self.server.aggregate(apiserver::Aggregation {
            chain: proxy.chain().unwrap(),
            key: proxy.key().unwrap(),
        });
    }

    /// The server is about to stop.
    pub fn leave(&self) {
        self.server.leave();
    }

    /// Stops the server when everything is answered.
    pub async fn drain(&self) {
        self.server.drain().await;
    }

    /// Tells the server to stop.
    pub fn shut_down(&self) {
        self.server.shutdown();
    }

    /// Sends a request in process.
    pub async fn send(&self, method: &str, path: &str, content: &str, body: Vec<u8>) -> Reply {
        self.ask(method, path, &[("content-type", content)], body)
            .await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        ask(&self.client, method, path, headers, body).await
    }

    /// A client with another identity.
    pub fn client_of(&self, name: &str, groups: &[&str]) -> client::Client {
        self.server.client_for(User::new(name, groups))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], Vec::new()).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Reply {
        let body = serde_json::to_vec(object).unwrap();
        self.send("POST", path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Reply {
        let body = serde_json::to_vec(object).unwrap();
        self.send("PUT", path, "application/json", body).await
    }

    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Reply {
        let body = serde_json::to_vec(patch).unwrap();
        let kind = match kind {
            "apply" => "application/apply-patch+yaml".to_string(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.send("PATCH", path, &kind, body).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path, &[], Vec::new()).await
    }

    /// The frames of a watch until it ends or `enough` says so.
    pub async fn watch(&self, path: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let request = Request::get(path)
            .body(kube::client::Body::empty())
            .unwrap();
        let answer = self.client.kube().send(request).await.unwrap();
        let stream = http_body_util::BodyStream::new(answer.into_body())
            .try_filter_map(|f| async { Ok(f.into_data().ok()) })
            .map_err(std::io::Error::other);
        let mut lines = Box::pin(stream.into_async_read()).lines();
        let mut seen = Vec::new();
        while !enough(&seen) {
            let next = tokio::time::timeout(Duration::from_secs(10), lines.next()).await;
            match next.expect("an event in time") {
                Some(Ok(line)) => seen.push(serde_json::from_str(&line).unwrap()),
                _ => break,
            }
        }
        seen
    }

    /// Asks until `done` likes the answer.
    pub async fn until(&self, path: &str, done: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let reply = self.get(path).await;
            if done(&reply) {
                return reply;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs one kubectl; gives whether it succeeded and what it wrote.
    pub async fn kubectl(&self, program: &str, args: &str, stdin: &str) -> (bool, String) {
        let mut child = tokio::process::Command::new(program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(args.split_whitespace())
            .env("HOME", self._dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(stdin.as_bytes()).await.unwrap();
        drop(input);
        let out = child.wait_with_output().await.unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        (out.status.success(), text)
    }
}

/// Sends a request with a client.
pub async fn ask(
    client: &client::Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (k, v) in headers {
        request = request.header(*k, *v);
    }
    let request = request.body(kube::client::Body::from(body)).unwrap();
    let answer = client.kube().send(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect_bytes().await.unwrap().to_vec();
    Reply {
        code: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// A store in a folder.
pub fn sqlite(dir: &std::path::Path) -> Store {
    let (tell, _fatal) = tokio::sync::oneshot::channel();
    Store::new(Sqlite::open(&dir.join("state.db"), tell).unwrap())
}

/// The kubectl programs of this machine.
pub fn kubectls() -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let all = [
        format!("{home}/.cache/upstream/bin/kubectl"),
        "/usr/lib/google-cloud-sdk/bin/kubectl.1.27".to_string(),
        "/usr/lib/google-cloud-sdk/bin/kubectl.1.33".to_string(),
    ];
    let found: Vec<String> = all
        .into_iter()
        .filter(|p| std::path::Path::new(p).exists())
        .collect();
    if found.is_empty() {
        eprintln!("SKIPPED: no kubectl on this machine");
    }
    found
}
