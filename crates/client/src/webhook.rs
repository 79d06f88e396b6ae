//! Calls of webhooks: JSON over HTTPS to a URL, or to a ready endpoint of a service.
//! Upstream: k8s.io/apiserver/pkg/util/webhook and its service resolvers.

mod place;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use machinery::object::{at, str_at};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Reads, limits};
use place::Place;

const AGENT: &str = "kube-apiserver-admission";

/// Calls webhooks. Their services are found in the caches.
pub struct Caller {
    reads: Arc<dyn Reads>,
    /// TLS settings by the CA bundle that they trust.
    settings: Mutex<HashMap<String, Arc<rustls::ClientConfig>>>,
}

// === Caller ===

impl Caller {
    /// A caller that finds services in these caches.
    pub fn new(reads: Arc<dyn Reads>) -> Self {
        Self {
            reads,
            settings: Mutex::default(),
        }
    }

    /// Posts a body to what a `clientConfig` names and gives the JSON that comes back. Errors read as those
    /// of Go's client, with the URL.
    pub async fn post(
        &self,
        config: &Value,
        timeout: Duration,
        body: Vec<u8>,
    ) -> Result<Value, String> {
        let place = Place::of(config, timeout)?;
        let failed = |why: String| format!("Post \"{}\": {why}", place.url);
        let exchange = self.exchange(&place, str_at(config, "caBundle"), body);
        let (code, data) = match tokio::time::timeout(timeout, exchange).await {
            Ok(done) => done.map_err(failed)?,
            Err(_) => return Err(failed("context deadline exceeded".into())),
        };
        if code != StatusCode::OK {
            return Err(refusal(code, &data));
        }
        serde_json::from_slice(&data).map_err(|e| format!("the answer is no JSON: {e}"))
    }

    async fn exchange(
        &self,
        place: &Place,
        bundle: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), String> {
        let settings = self.settings(bundle)?;
        let stream = self.connect(place).await?;
        let stream = secure(settings, &place.host, stream).await?;
        let text = |e: hyper::Error| e.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        // It ends when the answer is read or given up.
        let task = tokio::spawn(connection);
        let request = Request::post(&place.target)
            .header(header::HOST, &place.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, AGENT)
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(text)?;
        let code = answer.status();
        let data = Limited::new(answer.into_body(), limits::WEBHOOK_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        task.abort();
        Ok((code, data))
    }

    /// A connection to the first address that takes one.
    async fn connect(&self, place: &Place) -> Result<TcpStream, String> {
        let mut last = format!("dial tcp: lookup {}: no such host", place.host);
        for address in place.addresses(&*self.reads).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Only slower where it fails.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                    last = format!("dial tcp {address}: connect: connection refused");
                }
                Err(e) => last = format!("dial tcp {address}: connect: {e}"),
            }
        }
        Err(last)
    }

    fn settings(&self, bundle: &str) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut all = self.settings.lock();
        if let Some(known) = all.get(bundle) {
            return Ok(known.clone());
        }
        let made = Arc::new(tls::settings(bundle)?);
        if all.len() >= limits::WEBHOOK_BUNDLES {
            all.clear();
        }
        all.insert(bundle.to_string(), made.clone());
        Ok(made)
    }
}

async fn secure(
    settings: Arc<rustls::ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_string()).map_err(|e| e.to_string())?;
    let connected = TlsConnector::from(settings).connect(name, stream).await;
    connected.map_err(|e| tls::cause(&e))
}

/// What upstream's client makes of an answer that is no success.
fn refusal(code: StatusCode, data: &[u8]) -> String {
    if code == StatusCode::NOT_FOUND {
        return "the server could not find the requested resource".into();
    }
    if code.is_server_error() {
        let text = String::from_utf8_lossy(data);
        return format!(
            "an error on the server ({:?}) has prevented the request from succeeding",
            text.trim()
        );
    }
    "the server rejected our request for an unknown reason".into()
}

/// Whether a `clientConfig` names a place at all.
pub fn is_named(config: &Value) -> bool {
    at(config, "url").is_some() || at(config, "service").is_some()
}
