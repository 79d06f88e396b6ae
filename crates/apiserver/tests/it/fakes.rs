//! Stand-ins: descriptors of kinds that crate `resources` does not have yet, and a kubelet that
//! answers with what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use machinery::request::{Admission, Attempt, Operation, Steps};
use machinery::{ApiError, Descriptor, Scope, Strategy, SubresourceKind};
use pki::{Ca, Identity, Pki};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

struct Plain;

impl Strategy for Plain {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        api::names::subdomain_name(name, prefix)
    }
}

fn connect(verbs: &'static [&'static str], kind: &'static str) -> SubresourceKind {
    SubresourceKind::Connect {
        verbs,
        kind: kind.into(),
        group: "".into(),
        version: "v1".into(),
    }
}

const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// Pods, nodes, services and endpoint slices.
pub fn descriptors() -> Vec<Descriptor> {
    let streams = &["create", "get"];
    vec![
        Descriptor::new("", "v1", "Pod", "pods", Scope::Namespaced, Plain)
            .sub("log", connect(&["get"], "Pod"))
            .sub("exec", connect(streams, "PodExecOptions"))
            .sub("attach", connect(streams, "PodAttachOptions"))
            .sub("portforward", connect(streams, "PodPortForwardOptions"))
            .sub("proxy", connect(PROXY, "PodProxyOptions")),
        Descriptor::new("", "v1", "Node", "nodes", Scope::Cluster, Plain)
            .sub("proxy", connect(PROXY, "NodeProxyOptions")),
        Descriptor::new("", "v1", "Service", "services", Scope::Namespaced, Plain)
            .sub("proxy", connect(PROXY, "ServiceProxyOptions")),
        Descriptor::new(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            Scope::Namespaced,
            Plain,
        ),
    ]
}

/// A kubelet for a node of this name, over TLS, that lets in only clients the CA vouches for.
pub async fn kubelet(pki: &Pki, node: &str) -> SocketAddr {
    let dir = tempfile::tempdir().unwrap();
    let identity = pki
        .kubelet_server(&dir.path().join("kubelet"), node, vec![node.into()])
        .unwrap();
    serve(&identity, Some(&pki.ca), answer).await
}

/// A server over TLS that lets in only clients this CA vouches for, or anybody; its address.
pub async fn serve<B, F>(
    identity: &Identity,
    clients: Option<&Ca>,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    B: http_body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
{
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = builder
        .with_single_cert(identity.chain().unwrap(), identity.key().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                // A client that goes away is no news.
                let _ended = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .with_upgrades()
                    .await;
            });
        }
    });
    address
}

/// Creates of ConfigMaps take until the gate opens; tells when one has begun.
pub struct Slow {
    gate: watch::Receiver<bool>,
    begun: watch::Sender<bool>,
}

impl Slow {
    /// The plugin, its gate, and whether a create has begun.
    pub fn new() -> (Arc<Self>, watch::Sender<bool>, watch::Receiver<bool>) {
        let (open, gate) = watch::channel(false);
        let (begun, has_begun) = watch::channel(false);
        (Arc::new(Self { gate, begun }), open, has_begun)
    }
}

#[async_trait]
impl Admission for Slow {
    fn name(&self) -> &'static str {
        "Slow"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if a.descriptor.resource == "configmaps" {
            self.begun.send_replace(true);
            self.gate.clone().wait_for(|open| *open).await.unwrap();
        }
        Ok(())
    }
}

/// Echoes what it was asked; an upgrade becomes an echo of bytes.
pub async fn answer(mut r: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked = format!("{} {}\n", r.method(), r.uri());
    if let Some(upgrade) = r.headers().get("upgrade").cloned() {
        let on = hyper::upgrade::on(&mut r);
        tokio::spawn(async move {
            let mut io = TokioIo::new(on.await.unwrap());
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            io.write_all(asked.as_bytes()).await.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = io.read(&mut buffer).await {
                if io.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        });
        let mut answer = Response::new(Full::new(Bytes::new()));
        *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert("upgrade", upgrade);
        answer
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        return Ok(answer);
    }
    let (code, text) = match r.uri().path() {
        p if p.contains("/waiting") => (
            400,
            "container \"c\" in pod \"waiting\" is waiting to start: ContainerCreating".to_string(),
        ),
        p if p.ends_with("/moved") => (302, String::new()),
        p if p.ends_with(".html") => (200, "<a href=\"/rewriteme\">test</a>".to_string()),
        _ => {
            let leaked = r.headers().contains_key("authorization");
            let body = r.body_mut().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            (
                200,
                format!("{asked}{body}{}", if leaked { "LEAKED" } else { "" }),
            )
        }
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
    if code == 302 {
        let location = "/elsewhere".parse().unwrap();
        answer.headers_mut().insert("location", location);
    }
    let kind = if r.uri().path().ends_with(".html") {
        "text/html; charset=utf-8"
    } else {
        "text/plain"
    };
    answer
        .headers_mut()
        .insert("content-type", kind.parse().unwrap());
    Ok(answer)
}
