//! A client as client-go is one: few connections of HTTP/2, many requests at a time on each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Client;
use kube::client::{Body, ConfigExt};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::ServiceBuilder;

type Connection = hyper::client::conn::http2::SendRequest<Body>;

/// Requests go to the connections in turn.
pub async fn client(config: &kube::Config, connections: usize) -> Result<Client> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(connect(config).await?);
    }
    let (all, next) = (Arc::new(all), Arc::new(AtomicUsize::new(0)));
    let send = move |request| {
        let turn = next.fetch_add(1, Ordering::Relaxed) % all.len();
        let answer = all[turn].clone().send_request(request);
        async { answer.await.map_err(tower::BoxError::from) }
    };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .service(tower::service_fn(send));
    Ok(Client::new(service, "default"))
}

async fn connect(config: &kube::Config) -> Result<Connection> {
    let mut tls = config.rustls_client_config()?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let host = config.cluster_url.host().context("a host")?;
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(host.to_string())?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("a connection ended: {error}");
        }
    });
    Ok(sender)
}
