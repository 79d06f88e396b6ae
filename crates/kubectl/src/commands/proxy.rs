//! `kubectl proxy`: the API server on a local address, with the kubeconfig's own credentials.
//! Who may ask is filtered by host, path and method. Upstream: kubectl/pkg/proxy.

mod filter;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use clap::Args;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use self::filter::Filter;
use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::rest::Rest;

pub const COMMAND: Command =
    Command::of::<Flags>("proxy", &[], "Run a proxy to the Kubernetes API server");

/// Flags of `proxy`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// The port on which to run the proxy; 0 picks a random port
    #[arg(short, long, default_value_t = 8001)]
    port: u16,
    /// The IP address on which to serve on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,
    /// Unix socket on which to run the proxy
    #[arg(short, long)]
    unix_socket: Option<PathBuf>,
    /// Prefix to serve the proxied API under
    #[arg(long, default_value = "/")]
    api_prefix: String,
    /// Regular expression for paths that the proxy should accept
    #[arg(long, default_value = "^.*")]
    accept_paths: String,
    /// Regular expression for paths that the proxy should reject
    #[arg(long, default_value = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach")]
    reject_paths: String,
    /// Regular expression for hosts that the proxy should accept
    #[arg(long, default_value = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$")]
    accept_hosts: String,
    /// Regular expression for HTTP methods that the proxy should reject
    #[arg(long, default_value = "^$")]
    reject_methods: String,
    /// If true, disable request filtering in the proxy
    #[arg(long)]
    disable_filter: bool,
    /// Also serve static files from the given directory
    #[arg(short, long)]
    www: Option<String>,
    /// Accepted; the system's own keep-alive is used
    #[arg(long, default_value = "0s", hide = true)]
    keepalive: String,
}

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// What every request needs.
struct Proxy {
    rest: Rest,
    filter: Option<Filter>,
    prefix: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if self.www.is_some() {
            return Err(Error::text("proxy --www is not there yet in this version"));
        }
        let filter = if self.disable_filter {
            if self.unix_socket.is_none() {
                eprintln!(
                    "Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious"
                );
            }
            None
        } else {
            Some(Filter::parse(
                &self.accept_paths,
                &self.reject_paths,
                &self.accept_hosts,
                &self.reject_methods,
            )?)
        };
        let prefix = format!("/{}", self.api_prefix.trim_matches('/'));
        let proxy = Rc::new(Proxy {
            rest: cx.rest().await?.clone(),
            filter,
            prefix: if prefix == "/" { String::new() } else { prefix },
        });
        if let Some(path) = &self.unix_socket {
            let listener = private(path)?;
            println!("Starting to serve on {}", path.display());
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::task::spawn_local(serve(stream, proxy.clone()));
            }
        }
        let failed = |e| Error::text(format!("listen tcp {}:{}: {e}", self.address, self.port));
        let listener = TcpListener::bind((self.address.as_str(), self.port))
            .await
            .map_err(failed)?;
        println!("Starting to serve on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(serve(stream, proxy.clone()));
        }
    }
}

/// A socket that only its owner can use; one that an earlier proxy left is replaced.
fn private(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.map_err(|e| {
        let why = crate::error::io_text(&e);
        Error::text(format!("listen unix {}: {why}", path.display()))
    })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, proxy: Rc<Proxy>) {
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the proxy ended");
    }
}

fn said(code: StatusCode, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = code;
    answer
}

// === Proxy ===

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
        let method = request.method().as_str();
        if self
            .filter
            .as_ref()
            .is_some_and(|f| !f.accepts(method, path, host))
        {
            return said(StatusCode::FORBIDDEN, "Forbidden\n".into());
        }
        let Some(rest) = path.strip_prefix(&self.prefix).map(ToString::to_string) else {
            return said(StatusCode::NOT_FOUND, "404 page not found\n".into());
        };
        match self.forward(request, &rest).await {
            Ok(answer) => answer,
            Err(e) => said(StatusCode::BAD_GATEWAY, format!("{e}\n")),
        }
    }

    async fn forward(&self, mut request: Request<Incoming>, path: &str) -> Result<Answer> {
        let bad = |e: http::Error| Error::text(format!("invalid request: {e}"));
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let local = upgrades.then(|| hyper::upgrade::on(&mut request));
        let path = if path.is_empty() { "/" } else { path };
        let uri = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_string(),
        };
        let (head, body) = request.into_parts();
        let mut to = Request::builder().method(head.method).uri(uri);
        for (name, value) in &head.headers {
            // The connection to the server is another one.
            let hop = [header::HOST, header::CONNECTION, header::UPGRADE].contains(name);
            if !hop || (upgrades && *name != header::HOST) {
                to = to.header(name, value);
            }
        }
        // The client of the server takes whole bodies only.
        let body = Limited::new(body, limits::PROXIED_BYTES).collect().await;
        let body = body.map_err(|e| Error::text(format!("reading the request: {e}")))?;
        let request = to.body(Body::from(body.to_bytes())).map_err(bad)?;
        let mut answer = self.rest.forward(request).await?;
        if let (Some(local), StatusCode::SWITCHING_PROTOCOLS) = (local, answer.status()) {
            let remote = hyper::upgrade::on(&mut answer);
            tokio::task::spawn_local(async move {
                let (Ok(local), Ok(remote)) = tokio::join!(local, remote) else {
                    return;
                };
                let (mut local, mut remote) = (TokioIo::new(local), TokioIo::new(remote));
                let joined = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
                if let Err(error) = joined {
                    tracing::debug!(%error, "an upgraded connection ended");
                }
            });
        }
        let (mut head, body) = answer.into_parts();
        // The length of the body is told anew.
        head.headers.remove(header::TRANSFER_ENCODING);
        let body = body.map_err(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>);
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }
}
