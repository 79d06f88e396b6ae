//! The node's HTTPS API as its clients see it.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use machinery::request::{
    Attributes, Authenticated, Authenticator, Authorizer, Credentials, Decision, User,
};
use pki::{Pki, PkiOptions};
use serde_json::{Value, json};

use crate::Env;

/// The bearer token is the user.
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        Ok(c.bearer.map(|name| Authenticated {
            user: User::new(name, &[]),
            audiences: Vec::new(),
        }))
    }
}

/// `admin` may do everything, `reader` may read metrics.
struct Rules;

#[async_trait]
impl Authorizer for Rules {
    fn name(&self) -> &'static str {
        "rules"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        assert_eq!((a.resource.as_str(), a.name.as_str()), ("nodes", "n1"));
        match (a.user.name.as_str(), a.subresource.as_str()) {
            ("admin", _) | ("reader", "metrics") => Decision::Allow(String::new()),
            _ => Decision::NoOpinion(String::new()),
        }
    }

    async fn rules(&self, _: &User, _: &str) -> (Vec<Value>, Vec<Value>, bool) {
        (Vec::new(), Vec::new(), false)
    }
}

/// Server and client settings around a CA of the test's own.
fn tls(dir: &std::path::Path) -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let pki = Pki::ensure(&PkiOptions {
        dir: dir.join("pki"),
        sans: vec!["127.0.0.1".into()],
        cluster_domain: "cluster.local".into(),
        service_ips: vec![IpAddr::from([10, 96, 0, 1])],
        server_url: "https://127.0.0.1".into(),
        issuer: "https://kubernetes.default.svc".into(),
        audiences: Vec::new(),
        etcd_peer: None,
    })
    .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(pki.server().chain().unwrap(), pki.server().key().unwrap())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

struct Node {
    env: Env,
    client: Arc<rustls::ClientConfig>,
    port: u16,
}

impl Node {
    async fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut env = Env::unstarted();
        let (server, client) = tls(env.dir.path());
        env.serving = Some((port, server));
        env.authenticators = vec![Arc::new(Tokens)];
        env.authorizers = vec![Arc::new(Rules)];
        env.run();
        env.ready().await;
        Self { env, client, port }
    }

    async fn get(&self, user: &str, path: &str) -> (StatusCode, String) {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(self.client.clone());
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", "node");
        if !user.is_empty() {
            request = request.header("authorization", format!("Bearer {user}"));
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn logs_stats_and_who_may_ask() {
    let node = Node::start().await;
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","uid":"u1","generation":1},
        "spec":{"nodeName":"n1","containers":[{"name":"a","image":"img"}]},"status":{"phase":"Pending"}});
    node.env.api.put("pods", pod);
    node.env.phase("Running").await;
    let (status, text) = node.get("", "/pods").await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::UNAUTHORIZED, "Unauthorized")
    );
    let (status, text) = node.get("reader", "/pods").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        text,
        "Forbidden (user=reader, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
    );
    let (status, text) = node.get("reader", "/metrics/resource").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains(
        "container_cpu_usage_seconds_total{container=\"a\",namespace=\"ns\",pod=\"p\"} 5 "
    ));
    let log = "/containerLogs/ns/p/a";
    assert_eq!(node.get("admin", log).await.1, "hello from a\n");
    let stamped = node.get("admin", &format!("{log}?timestamps=true")).await.1;
    assert_eq!(stamped, "2026-01-01T00:00:00.000000001Z hello from a\n");
    let (status, text) = node.get("admin", &format!("{log}?previous=true")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        text,
        "previous terminated container \"a\" in pod \"p\" not found"
    );
    let (status, _) = node.get("admin", "/containerLogs/ns/none/a").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let summary: Value =
        serde_json::from_str(&node.get("admin", "/stats/summary").await.1).unwrap();
    assert_eq!(summary["node"]["nodeName"], "n1");
    let container = &summary["pods"][0]["containers"][0];
    assert_eq!(container["memory"]["workingSetBytes"], 1 << 20);
    let pods: Value = serde_json::from_str(&node.get("admin", "/pods").await.1).unwrap();
    assert_eq!(pods["items"][0]["status"]["phase"], "Running");
    let (status, text) = node.get("admin", "/exec/ns/p/a?command=x&output=1").await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::BAD_REQUEST, "Upgrade request required")
    );
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let node = Node::start().await;
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","uid":"u1","generation":1},
        "spec":{"nodeName":"n1","restartPolicy":"Never","containers":[{"name":"a","image":"img"}]},"status":{"phase":"Pending"}});
    node.env.api.put("pods", pod);
    node.env.phase("Running").await;
    let path = node.env.dir.path().join("pods/ns_p_u1/a/0.log");
    let more = async {
        use std::io::Write;
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        writeln!(file, "2026-01-01T00:00:01Z stdout F more").unwrap();
        node.env.runtime.exit("a", 0);
    };
    let (followed, ()) = tokio::join!(node.get("admin", "/containerLogs/ns/p/a?follow=true"), more);
    assert_eq!(followed.1, "hello from a\nmore\n");
}
