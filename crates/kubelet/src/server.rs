//! The node's HTTPS API: logs, exec, attach, port-forward, pods, stats, metrics. Upstream: pkg/kubelet/server.

mod access;
mod body;
mod host_logs;
mod info;
mod logs;
mod metrics;
mod remote;
mod stats;

use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use machinery::request::{Authenticator, Authorizer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::kubelet::Kubelet;
use crate::limits;
use body::Body;

/// Who may come in.
pub(crate) struct Guard {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
}

/// Serves for ever.
pub(crate) async fn run(
    kubelet: Arc<Kubelet>,
    guard: Arc<Guard>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let seats = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            tracing::warn!("too many connections, one was refused");
            continue;
        };
        let (kubelet, guard, acceptor) = (kubelet.clone(), guard.clone(), acceptor.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(kubelet, guard, stream, acceptor).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(seat);
        });
    }
}

async fn connection(
    kubelet: Arc<Kubelet>,
    guard: Arc<Guard>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(limits::HANDSHAKE, acceptor.accept(stream)).await??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or(&[]);
    let certificates: Arc<Vec<Vec<u8>>> = Arc::new(chain.iter().map(|c| c.to_vec()).collect());
    let service = service_fn(move |request| {
        let (kubelet, guard, certificates) = (kubelet.clone(), guard.clone(), certificates.clone());
        async move { Ok::<_, Infallible>(handle(kubelet, &guard, &certificates, request).await) }
    });
    auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
}

async fn handle(
    kubelet: Arc<Kubelet>,
    guard: &Guard,
    certificates: &[Vec<u8>],
    request: Request<Incoming>,
) -> Response<Body> {
    let node = kubelet.config.node_name.clone();
    if let Err(refusal) = access::check(guard, &node, certificates, &request).await {
        return refusal;
    }
    route(kubelet, request).await
}

async fn route(kubelet: Arc<Kubelet>, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_string();
    let query = request.uri().query().unwrap_or_default().to_string();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = request.method() == Method::GET;
    let stream = get || request.method() == Method::POST;
    match parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if get => {
            body::text(StatusCode::OK, "ok")
        }
        ["pods"] if get => info::pods(&kubelet),
        ["runningpods"] if get => info::running_pods(&kubelet).await,
        ["configz"] if get => info::configz(&kubelet),
        ["metrics"] if get => metrics::kubelet(&kubelet).await,
        ["metrics", "cadvisor"] if get => metrics::cadvisor(&kubelet).await,
        ["metrics", "resource"] if get => metrics::resource(&kubelet).await,
        ["metrics", "probes"] if get => metrics::probes(&kubelet),
        ["stats", "summary"] if stream => stats::summary(&kubelet, &query).await,
        ["containerLogs", ns, pod, container] if get => {
            logs::container(&kubelet, ns, pod, container, &query).await
        }
        ["logs", rest @ ..] if get => host_logs::host(rest).await,
        ["exec", ns, pod, rest @ ..] if stream => {
            remote::exec(&kubelet, ns, pod, rest, &query, &mut request).await
        }
        ["attach", ns, pod, rest @ ..] if stream => {
            remote::attach(&kubelet, ns, pod, rest, &query, &mut request).await
        }
        ["portForward", ns, pod, rest @ ..] if stream => {
            remote::port_forward(&kubelet, ns, pod, rest, &mut request).await
        }
        ["run", ns, pod, rest @ ..] if request.method() == Method::POST => {
            remote::run(&kubelet, ns, pod, rest, &query).await
        }
        ["checkpoint", ..] => body::text(
            StatusCode::NOT_IMPLEMENTED,
            "checkpointing of containers is not supported by this kubelet",
        ),
        _ => body::text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
