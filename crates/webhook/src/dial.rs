//! TCP, then TLS, as the connector of a client's pool: one client is one configuration.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::tls_text;
use crate::limits;
use crate::names::Names;

/// Connects to whatever address a request's URL has, and wants the configuration's name there.
#[derive(Clone)]
pub struct Dialer {
    pub names: Names,
    pub tls: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
}

/// A connection; its text is Go's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DialError(pub String);

/// A TLS connection as hyper's pool wants it.
pub struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Dialer {
    async fn dial(self, uri: http::Uri) -> Result<Stream, DialError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(443);
        let addresses = self.names.lookup(host).await.map_err(DialError)?;
        let stream = tcp(&addresses, port).await?;
        let connector = TlsConnector::from(self.tls.clone());
        let shaking = connector.connect(self.server_name.clone(), stream);
        match tokio::time::timeout(limits::HANDSHAKE, shaking).await {
            Err(_) => Err(DialError("net/http: TLS handshake timeout".into())),
            Ok(Err(e)) => Err(DialError(handshake_text(&e))),
            Ok(Ok(stream)) => Ok(Stream(TokioIo::new(stream))),
        }
    }
}

async fn tcp(addresses: &[IpAddr], port: u16) -> Result<TcpStream, DialError> {
    let mut failed = DialError("dial tcp: no address".into());
    for ip in addresses {
        let at = SocketAddr::new(*ip, port);
        let text = |why: &str| DialError(format!("dial tcp {at}: {why}"));
        match tokio::time::timeout(limits::DIAL, TcpStream::connect(at)).await {
            Err(_) => failed = text("i/o timeout"),
            Ok(Err(e)) => failed = text(&dial_text(&e)),
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|e| text(&e.to_string()))?;
                return Ok(stream);
            }
        }
    }
    Err(failed)
}

/// What Go says of a failed connect.
fn dial_text(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "connect: connection timed out".into(),
        _ => e.to_string(),
    }
}

fn handshake_text(e: &std::io::Error) -> String {
    let tls = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => tls_text(tls),
        None if e.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => e.to_string(),
    }
}

impl tower::Service<http::Uri> for Dialer {
    type Response = Stream;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

// === Stream ===

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
