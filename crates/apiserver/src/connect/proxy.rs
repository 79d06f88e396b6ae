//! One request carried to a backend: dialled, sent, streamed back, or both connections joined.
//! Upstream: apimachinery/pkg/util/proxy (UpgradeAwareHandler, Transport).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue,
    LOCATION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use machinery::ApiError;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ConnectRequest, html};
use crate::body;
use crate::limits;
use crate::response::{self, Answer};

/// Headers that belong to one connection.
pub const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What a proxied answer may not say for this server.
const CORS: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// TLS towards a backend.
#[derive(Clone)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    /// The name its certificate must hold.
    pub name: String,
}

/// Where a request goes.
pub struct Backend {
    pub host: String,
    pub port: u16,
    pub secure: Option<Secure>,
}

/// A request for a backend.
pub struct Outgoing {
    pub method: Method,
    /// Path and query, escaped.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A connection to a backend failed; the text is Go's.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("dial tcp {0}: {1}")]
    Dial(String, String),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Exchange(String),
}

// === Backend ===

impl Backend {
    /// `host:port`, IPv6 in brackets.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The whole URL of a path, for error texts.
    pub fn url(&self, target: &str) -> String {
        let scheme = if self.secure.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{target}", self.authority())
    }
}

// === Outgoing ===

impl Outgoing {
    /// A GET without headers.
    pub fn get(path: &str, query: &str) -> Self {
        let path = escaped(path);
        let target = if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        };
        Self {
            method: Method::GET,
            target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

/// A decoded path as a request line may hold it.
pub fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(b)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'='
            | b'@' | b'!' | b'*' | b'\'' | b'(' | b')' => out.push(char::from(b)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

type Sender = http1::SendRequest<Full<Bytes>>;

async fn dial(b: &Backend) -> Result<Sender, ProxyError> {
    let address = b.authority();
    let failed = |why: String| ProxyError::Dial(address.clone(), why);
    let connecting = TcpStream::connect((b.host.as_str(), b.port));
    let stream = match tokio::time::timeout(limits::DIAL, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(failed(go_text(&e))),
        Err(_) => return Err(failed("i/o timeout".into())),
    };
    stream
        .set_nodelay(true)
        .map_err(|e| failed(e.to_string()))?;
    let broken = |e: hyper::Error| ProxyError::Exchange(e.to_string());
    let Some(secure) = &b.secure else {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(driven(connection.with_upgrades()));
        return Ok(sender);
    };
    let tls = |e: String| ProxyError::Tls(format!("tls: {e}"));
    let name = ServerName::try_from(secure.name.clone()).map_err(|e| tls(e.to_string()))?;
    let connector = TlsConnector::from(secure.config.clone());
    let shaking = tokio::time::timeout(limits::DIAL, connector.connect(name, stream));
    let stream = match shaking.await {
        Ok(done) => done.map_err(|e| tls(e.to_string()))?,
        Err(_) => return Err(tls("handshake timed out".into())),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    tokio::spawn(driven(connection.with_upgrades()));
    Ok(sender)
}

/// Drives a connection until both ends are done with it.
async fn driven(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to a backend ended");
    }
}

/// What Go says of a failed connect.
fn go_text(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => e.to_string(),
    }
}

async fn exchange(b: &Backend, o: Outgoing) -> Result<Response<Incoming>, ProxyError> {
    let mut sender = dial(b).await?;
    let broken = |e: String| ProxyError::Exchange(e);
    let uri: Uri = o
        .target
        .parse()
        .map_err(|e: http::uri::InvalidUri| broken(e.to_string()))?;
    let mut request = Request::new(Full::new(o.body));
    *request.method_mut() = o.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = o.headers;
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&b.authority()).map_err(|e| broken(e.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
    sender
        .send_request(request)
        .await
        .map_err(|e| broken(e.to_string()))
}

fn streamed(answer: Response<Incoming>) -> Answer {
    let (parts, incoming) = answer.into_parts();
    let body = incoming.map_err(std::io::Error::other).boxed_unsync();
    Answer::from_parts(parts, body)
}

/// Sends a request; the answer's body is streamed.
pub async fn send(b: &Backend, o: Outgoing) -> Result<Answer, ProxyError> {
    exchange(b, o).await.map(streamed)
}

/// Sends the client's upgrade request to a backend and joins both connections.
pub async fn upgrade(b: &Backend, mut r: ConnectRequest, target: &str) -> Result<Answer, ApiError> {
    let upgrade = r.upgrade.take();
    let (true, Some(client)) = (r.wants_upgrade(), upgrade) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let mut headers = own_headers(&r);
    for name in [CONNECTION, UPGRADE] {
        for value in r.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    let outgoing = Outgoing {
        method: r.method.clone(),
        target: target.to_string(),
        headers,
        body: r.body.clone(),
    };
    let answer = exchange(b, outgoing)
        .await
        .map_err(|e| ApiError::internal(format!("error dialing backend: {e}")))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(cleaned(streamed(answer)));
    }
    Ok(joined(client, answer))
}

/// The answer of a backend that changed protocols; the client's connection and the backend's are one from then on.
pub fn joined(client: hyper::upgrade::OnUpgrade, mut answer: Response<Incoming>) -> Answer {
    let backend = hyper::upgrade::on(&mut answer);
    let (mut parts, _) = answer.into_parts();
    parts.extensions = http::Extensions::new();
    tokio::spawn(async move {
        match tokio::try_join!(client, backend) {
            Ok((c, s)) => {
                let (mut c, mut s) = (TokioIo::new(c), TokioIo::new(s));
                // Either end may simply go away: that ends the stream and is no fault.
                let ended = tokio::io::copy_bidirectional(&mut c, &mut s).await;
                tracing::debug!(?ended, "upgraded connection ended");
            }
            Err(error) => tracing::debug!(%error, "connection was not upgraded"),
        }
    });
    Answer::from_parts(parts, body::full(Bytes::new()))
}

/// Whether headers ask for another protocol on their connection.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(CONNECTION).iter();
    let upgrades = said.any(|v| {
        v.to_str()
            .is_ok_and(|v| v.to_ascii_lowercase().contains("upgrade"))
    });
    upgrades && headers.contains_key(UPGRADE)
}

/// The client's headers without credentials and those of its connection.
fn own_headers(r: &ConnectRequest) -> HeaderMap {
    let mut headers = r.headers.clone();
    headers.remove(AUTHORIZATION);
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    headers.remove(CONTENT_LENGTH);
    if let Some(protocols) = headers.get("sec-websocket-protocol")
        && let Ok(text) = protocols.to_str()
        && text.contains("base64url.bearer.authorization.k8s.io.")
    {
        let kept: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|p| !p.starts_with("base64url.bearer.authorization.k8s.io."))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join(", ")) {
            headers.insert("sec-websocket-protocol", value);
        }
    }
    headers
}

/// An answer without the headers of its connection and of other origins.
pub fn cleaned(mut answer: Answer) -> Answer {
    for name in HOP_BY_HOP.iter().chain(CORS) {
        answer.headers_mut().remove(*name);
    }
    answer
}

/// Where a proxied request leads: the path behind the prefix, and the prefix.
fn split_path(path: &str, rest: &str) -> (String, String) {
    let mut location = if rest.is_empty() {
        String::new()
    } else {
        format!("/{rest}")
    };
    if path.ends_with('/') && !location.ends_with('/') {
        location.push('/');
    }
    let prefix = path.strip_suffix(location.as_str()).unwrap_or(path);
    (location, prefix.to_string())
}

/// Carries a request of a proxy subresource to its backend.
pub async fn forward(b: &Backend, r: ConnectRequest) -> Result<Answer, ApiError> {
    let (location, prefix) = split_path(&r.path, &r.rest);
    let query = if r.raw_query.is_empty() {
        String::new()
    } else {
        format!("?{}", r.raw_query)
    };
    let path = if location.is_empty() { "/" } else { &location };
    let target = format!("{}{query}", escaped(path));
    if r.wants_upgrade() && r.upgrade.is_some() {
        return upgrade(b, r, &target).await;
    }
    if location.is_empty() && [Method::GET, Method::HEAD].contains(&r.method) {
        return Ok(moved(&format!("{}/{query}", escaped(&r.path))));
    }
    let mut headers = own_headers(&r);
    let forwarded = format!("{}{}", escaped(&prefix), escaped(path));
    if let Ok(value) = HeaderValue::from_str(&forwarded) {
        headers.insert("x-forwarded-uri", value);
    }
    let host = r.headers.get(HOST).and_then(|h| h.to_str().ok());
    let host = host.unwrap_or_default().to_string();
    let outgoing = Outgoing {
        method: r.method.clone(),
        target,
        headers,
        body: r.body,
    };
    let answer = send(b, outgoing)
        .await
        .map_err(|e| ApiError::unavailable(format!("error trying to reach service: {e}")))?;
    rewritten(cleaned(answer), &prefix, &[&host, &b.authority()]).await
}

fn moved(location: &str) -> Answer {
    let mut answer = response::bytes(301, "text/plain; charset=utf-8", Bytes::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    if let Ok(value) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

/// Redirects and links that point at the backend's root, put under the proxy's prefix.
async fn rewritten(mut answer: Answer, prefix: &str, hosts: &[&str]) -> Result<Answer, ApiError> {
    if let Some(location) = answer.headers().get(LOCATION).and_then(|l| l.to_str().ok()) {
        let new = html::rewritten_url(location, prefix, hosts);
        if let Ok(value) = HeaderValue::from_str(&new) {
            answer.headers_mut().insert(LOCATION, value);
        }
        return Ok(answer);
    }
    let kind = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|c| c.to_str().ok());
    let is_html = kind.is_some_and(|k| k.split(';').next().unwrap_or("").trim() == "text/html");
    let plain = !answer
        .headers()
        .contains_key(http::header::CONTENT_ENCODING);
    let size = http_body::Body::size_hint(answer.body()).exact();
    let small = size.is_none_or(|n| n <= limits::BODY_BYTES as u64);
    if !(is_html && plain && small) {
        return Ok(answer);
    }
    let (mut parts, page) = answer.into_parts();
    let page = http_body_util::Limited::new(page, limits::BODY_BYTES)
        .collect()
        .await
        .map_err(|e| ApiError::unavailable(format!("error trying to reach service: {e}")))?;
    let page = html::rewritten_page(&page.to_bytes(), prefix, hosts);
    parts.headers.remove(CONTENT_LENGTH);
    Ok(Answer::from_parts(parts, body::full(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_prefix_and_rest() {
        let base = "/api/v1/namespaces/n/pods/p/proxy";
        for (path, rest, location) in [
            (base.to_string(), "", ""),
            (format!("{base}/"), "", "/"),
            (format!("{base}/a/b"), "a/b", "/a/b"),
            (format!("{base}/a/"), "a", "/a/"),
        ] {
            let (l, prefix) = split_path(&path, rest);
            assert_eq!((l.as_str(), prefix.as_str()), (location, base), "{path}");
        }
    }
}
