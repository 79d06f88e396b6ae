//! Requests to the API server, their answers, and the errors kubectl says for them.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde_json::{Value, json};

use crate::context::Globals;
use crate::error::{Error, Result};
use crate::limits;

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    pub content_type: &'static str,
    pub accept: &'static str,
    pub headers: Vec<(String, String)>,
}

/// The client of the API server.
#[derive(Clone)]
pub struct Rest {
    client: kube::Client,
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
    verbosity: u8,
    warnings_are_errors: bool,
    /// The server's address as the kubeconfig gives it.
    pub server: http::Uri,
}

// === Call ===

impl Call {
    /// A request without a body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            content_type: "application/json",
            accept: "application/json",
            headers: Vec::new(),
        }
    }

    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// With a parameter.
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// With a parameter where the value is not empty.
    pub fn query_some(self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        self.query(name, value)
    }

    /// With a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }

    /// With a body of another type.
    pub fn body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = content_type;
        self.body = Some(body);
        self
    }

    fn uri(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let pairs: Vec<String> = self
            .query
            .iter()
            .map(|(k, v)| format!("{}={}", escape(k), escape(v)))
            .collect();
        let joint = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.path, pairs.join("&"))
    }
}

/// A text within a query.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(b.into());
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// Where a server on `localhost` is: the loopback address, whoever there may be to ask for it (RFC 6761 6.3).
/// A bare root has neither /etc/hosts nor a resolver.
fn at_loopback(url: &http::Uri) -> Option<http::Uri> {
    if url.host() != Some("localhost") {
        return None;
    }
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let mut parts = url.clone().into_parts();
    parts.authority = format!("127.0.0.1{port}").parse().ok();
    http::Uri::from_parts(parts).ok()
}

// === Rest ===

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rest({})", self.server)
    }
}

impl Rest {
    /// A client of a cluster.
    pub fn new(mut config: kube::Config, g: &Globals, timeout: Option<Duration>) -> Result<Self> {
        let server = config.cluster_url.clone();
        if let Some(url) = at_loopback(&server) {
            config.cluster_url = url;
            config.tls_server_name.get_or_insert("localhost".into());
        }
        let mut headers = Vec::new();
        if let Some(user) = &g.as_user {
            headers.push(("Impersonate-User".into(), user.clone()));
        }
        for group in &g.as_group {
            headers.push(("Impersonate-Group".into(), group.clone()));
        }
        if let Some(uid) = &g.as_uid {
            headers.push(("Impersonate-Uid".into(), uid.clone()));
        }
        let client = kube::Client::try_from(config)
            .map_err(|e| Error::text(format!("cannot make a client: {e}")))?;
        Ok(Self {
            client,
            headers,
            timeout,
            verbosity: g.v,
            warnings_are_errors: g.warnings_as_errors,
            server,
        })
    }

    /// The answer's head; answers of 400 and more are errors.
    pub async fn send(&self, call: &Call) -> Result<Response<Body>> {
        let answer = self.exchange(call).await?;
        let code = answer.status();
        if code.as_u16() < 400 {
            return Ok(answer);
        }
        let bytes = collect(answer).await?;
        let status = status_of(&bytes).unwrap_or_else(|| unknown_status(code, &bytes, call));
        Err(Error::status(status))
    }

    /// The answer to a request to become another protocol.
    pub async fn upgrade(&self, call: &Call) -> Result<Response<Body>> {
        let answer = self.exchange(call).await?;
        if answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let bytes = collect(answer).await?;
        Err(match status_of(&bytes) {
            Some(status) => Error::status(status),
            None => Error::text(format!(
                "unable to upgrade connection: {}",
                String::from_utf8_lossy(&bytes).trim()
            )),
        })
    }

    /// The answer, whatever it is.
    async fn exchange(&self, call: &Call) -> Result<Response<Body>> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.uri())
            .header(header::ACCEPT, call.accept)
            .header(header::USER_AGENT, "kubectl/v1.37.0");
        for (name, value) in self.headers.iter().chain(&call.headers) {
            request = request.header(name, value);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        let body = call.body.clone().map_or_else(Body::empty, Body::from);
        let request = request
            .body(body)
            .map_err(|e| Error::text(format!("invalid request {}: {e}", call.uri())))?;
        let started = std::time::Instant::now();
        let answer = match self.timeout {
            Some(limit) => tokio::time::timeout(limit, self.client.send(request))
                .await
                .map_err(|_| self.unreachable("net/http: request canceled (Client.Timeout exceeded while awaiting headers)"))?,
            None => self.client.send(request).await,
        };
        let answer = answer.map_err(|e| self.transport_error(&e))?;
        if self.verbosity >= 6 {
            eprintln!(
                "{} {}{} {} in {} milliseconds",
                call.method,
                self.server.to_string().trim_end_matches('/'),
                call.uri(),
                answer.status(),
                started.elapsed().as_millis()
            );
        }
        self.warn(&answer)?;
        Ok(answer)
    }

    /// Sends somebody else's request as it is, with this client's credentials.
    pub async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        for (name, value) in &self.headers {
            let header = (
                http::HeaderName::try_from(name.as_str()),
                http::HeaderValue::try_from(value.as_str()),
            );
            let (Ok(name), Ok(value)) = header else {
                return Err(Error::text(format!("invalid header {name}")));
            };
            request.headers_mut().append(name, value);
        }
        let answer = self.client.send(request).await;
        answer.map_err(|e| self.transport_error(&e))
    }

    /// The JSON of an answer.
    pub async fn json(&self, call: &Call) -> Result<Value> {
        let bytes = collect(self.send(call).await?).await?;
        if self.verbosity >= 8 {
            eprintln!("Response Body: {}", String::from_utf8_lossy(&bytes));
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::text(format!("unable to decode the server's answer: {e}")))
    }

    /// The text of an answer.
    pub async fn text(&self, call: &Call) -> Result<String> {
        let bytes = collect(self.send(call).await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of an answer as they come.
    pub async fn stream(
        &self,
        call: &Call,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Unpin + use<>> {
        let body = self.send(call).await?.into_body();
        Ok(body
            .into_data_stream()
            .map(|chunk| chunk.map_err(|e| Error::text(e.to_string()))))
    }

    /// The events of a watch, as `{"type", "object"}`.
    pub async fn watch(
        &self,
        call: &Call,
    ) -> Result<impl Stream<Item = Result<Value>> + Unpin + use<>> {
        let chunks = self.stream(call).await?;
        let state = (chunks, Vec::<u8>::new());
        Ok(Box::pin(futures::stream::unfold(
            state,
            |(mut chunks, mut held)| async move {
                loop {
                    if let Some(end) = held.iter().position(|b| *b == b'\n') {
                        let line: Vec<u8> = held.drain(..=end).collect();
                        let event = serde_json::from_slice(&line)
                            .map_err(|e| Error::text(format!("unable to decode an event: {e}")));
                        return Some((event, (chunks, held)));
                    }
                    match chunks.next().await? {
                        Ok(bytes) => held.extend_from_slice(&bytes),
                        Err(e) => return Some((Err(e), (chunks, held))),
                    }
                }
            },
        )))
    }

    fn warn(&self, answer: &Response<Body>) -> Result<()> {
        let mut seen = 0;
        for value in answer.headers().get_all("warning") {
            let text = value.to_str().unwrap_or_default();
            // `299 - "text"`
            let text = text.splitn(3, ' ').nth(2).unwrap_or(text).trim();
            let text = text
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .unwrap_or(text);
            eprintln!(
                "Warning: {}",
                text.replace("\\\"", "\"").replace("\\\\", "\\")
            );
            seen += 1;
        }
        if seen > 0 && self.warnings_are_errors {
            return Err(Error::text(format!(
                "{seen} warning{} received",
                if seen == 1 { "" } else { "s" }
            )));
        }
        Ok(())
    }

    fn unreachable(&self, text: &str) -> Error {
        Error::Plain(format!("Unable to connect to the server: {text}"))
    }

    fn transport_error(&self, e: &kube::Error) -> Error {
        let mut chain: Vec<String> = Vec::new();
        let mut at: Option<&dyn std::error::Error> = Some(e);
        while let Some(error) = at {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::ConnectionRefused
            {
                return self.refused();
            }
            chain.push(error.to_string());
            at = error.source();
        }
        if chain.iter().any(|t| t.contains("Connection refused")) {
            return self.refused();
        }
        self.unreachable(chain.last().map_or("unknown error", String::as_str))
    }

    fn refused(&self) -> Error {
        let host = self
            .server
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        Error::Plain(format!(
            "The connection to the server {host} was refused - did you specify the right host or port?"
        ))
    }
}

async fn collect(answer: Response<Body>) -> Result<Bytes> {
    let body = Limited::new(answer.into_body(), limits::ANSWER_BYTES);
    let whole = body
        .collect()
        .await
        .map_err(|e| Error::text(format!("cannot read the server's answer: {e}")))?;
    Ok(whole.to_bytes())
}

fn status_of(bytes: &[u8]) -> Option<Value> {
    let parsed = serde_json::from_slice::<Value>(bytes).ok();
    parsed.filter(|v| v["kind"] == "Status")
}

fn unknown_status(code: http::StatusCode, body: &[u8], call: &Call) -> Value {
    let text = String::from_utf8_lossy(body);
    let (reason, message) = match code.as_u16() {
        401 => ("Unauthorized", "Unauthorized".to_string()),
        403 => ("Forbidden", text.trim().to_string()),
        404 => (
            "NotFound",
            "the server could not find the requested resource".to_string(),
        ),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource".to_string(),
        ),
        500.. => (
            "InternalError",
            format!(
                "an error on the server (\"{}\") has prevented the request from succeeding",
                text.trim()
            ),
        ),
        _ => (
            "",
            format!("{} {}: {}", call.method, call.path, text.trim()),
        ),
    };
    json!({"kind": "Status", "code": code.as_u16(), "reason": reason, "message": message})
}
