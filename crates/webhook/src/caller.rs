//! `Caller`: POSTs to webhooks, with connections that are kept between calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Reads;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;

use crate::config::{ClientConfig, Target};
use crate::dial::Dialer;
use crate::endpoint::{self, Endpoint};
use crate::error::{self, CallError};
use crate::limits;
use crate::names::Names;
use crate::tls::{Verification, client_config};
use crate::trace;

/// A pool of connections to one server: it wants the same name and authorities on each.
pub type HttpClient = Client<Dialer, Full<Bytes>>;

/// A pool for requests whose URLs name the address; the certificate there must hold `server_name`.
/// HTTP/1.1 only; connections can be upgraded.
pub fn pool(
    names: &Names,
    tls: Arc<rustls::ClientConfig>,
    server_name: &str,
) -> Result<HttpClient, String> {
    let dialer = Dialer {
        names: names.clone(),
        tls,
        server_name: ServerName::try_from(server_name.to_string()).map_err(|e| e.to_string())?,
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(limits::IDLE)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(limits::HEADER_BYTES)
        .build(dialer))
}

/// Clients by configuration; the number is when each was used last.
#[derive(Default)]
struct Clients {
    known: HashMap<ClientConfig, (HttpClient, u64)>,
    clock: u64,
}

/// Calls webhooks. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Caller {
    reads: Arc<dyn Reads>,
    names: Names,
    agent: HeaderValue,
    clients: Arc<Mutex<Clients>>,
}

// === Caller ===

impl Caller {
    /// A caller that finds Services by these caches and names itself so.
    pub fn new(reads: Arc<dyn Reads>, agent: &str) -> Self {
        let agent = HeaderValue::from_str(agent);
        Self {
            reads,
            names: Names::default(),
            agent: agent.unwrap_or(HeaderValue::from_static("kube-apiserver-admission")),
            clients: Arc::default(),
        }
    }

    /// Whether a configuration can be called at all; the error is why not, upstream's text.
    pub fn check(&self, config: &ClientConfig) -> Result<(), String> {
        self.client(config).map(drop)
    }

    /// POSTs JSON and gives the answer's body, at most `max` bytes of it, within `timeout`. The URL tells the
    /// webhook that time, in whole seconds.
    pub async fn post(
        &self,
        config: &ClientConfig,
        body: Bytes,
        timeout: Duration,
        max: usize,
    ) -> Result<Bytes, CallError> {
        let (host, target) = config.url(timeout).map_err(CallError::new)?;
        let url = format!("https://{host}{target}");
        let mut span = trace::child("HTTP POST", trace::Kind::Client);
        if let Some(span) = &mut span {
            span.set("http.request.method", "POST");
            span.set("url.full", url.as_str());
            span.set("server.address", host.as_str());
        }
        let parent = span.as_ref().map(|s| s.context().header());
        let work = self.exchange(config, (&host, &target, parent), body, max);
        let done = match tokio::time::timeout(timeout, work).await {
            Err(_) => Err(CallError::posting(&url, "context deadline exceeded")),
            Ok(Err(Failed::Way(why))) => Err(CallError::posting(&url, why)),
            Ok(Err(Failed::Answer(e))) => Err(e),
            Ok(Ok(answer)) => Ok(answer),
        };
        if let (Some(span), Err(error)) = (&mut span, &done) {
            span.fail(error.text.as_str());
        }
        done
    }

    async fn exchange(
        &self,
        config: &ClientConfig,
        (host, target, parent): (&str, &str, Option<String>),
        body: Bytes,
        max: usize,
    ) -> Result<Bytes, Failed> {
        let client = self.client(config).map_err(Failed::Way)?;
        let at = self.endpoint(config, host).map_err(Failed::Way)?;
        let request = self.request(host, target, &at, body);
        let mut request = request.map_err(Failed::Way)?;
        if let Some(parent) = parent.and_then(|p| HeaderValue::from_str(&p).ok()) {
            request.headers_mut().insert(trace::TRACEPARENT, parent);
        }
        let answer = client.request(request).await;
        let answer = answer.map_err(|e| Failed::Way(error::cause(&e)))?;
        let (parts, body) = answer.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        let too_long = || {
            Failed::Answer(CallError::new(format!(
                "response is longer than {max} bytes"
            )))
        };
        if length.is_some_and(|n| n > max) {
            return Err(too_long());
        }
        let body = match Limited::new(body, max).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => return Err(too_long()),
            Err(e) => {
                let why = error::cause(&*e);
                return Err(Failed::Answer(CallError::new(format!(
                    "unexpected error when reading response body. Please retry. Original error: {why}"
                ))));
            }
        };
        let code = parts.status.as_u16();
        if !(200..=206).contains(&code) {
            let kind = parts
                .headers
                .get(CONTENT_TYPE)
                .and_then(|v| v.to_str().ok());
            let is_text = kind.is_some_and(|k| k.starts_with("text/"));
            return Err(Failed::Answer(CallError::answered(code, is_text, &body)));
        }
        if body.is_empty() {
            let kind = parts
                .headers
                .get(CONTENT_TYPE)
                .and_then(|v| v.to_str().ok());
            let kind = kind.unwrap_or("application/json");
            return Err(Failed::Answer(CallError {
                text: format!(
                    "0-length response with status code: {code} and content type: {kind}"
                ),
                code,
            }));
        }
        Ok(body)
    }

    fn request(
        &self,
        host: &str,
        target: &str,
        at: &Endpoint,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, String> {
        let address = match at.host.contains(':') && !at.host.starts_with('[') {
            true => format!("[{}]:{}", at.host, at.port),
            false => format!("{}:{}", at.host, at.port),
        };
        let uri: Uri = format!("https://{address}{target}")
            .parse()
            .map_err(|e: http::uri::InvalidUri| e.to_string())?;
        Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(HOST, host)
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, &self.agent)
            .body(Full::new(body))
            .map_err(|e| e.to_string())
    }

    /// Where a call goes this time.
    fn endpoint(&self, config: &ClientConfig, host: &str) -> Result<Endpoint, String> {
        match &config.target {
            Target::Service(s) => endpoint::resolve(&*self.reads, &s.namespace, &s.name, s.port),
            _ => {
                let (name, port) = split_port(host);
                let host = name.to_string();
                Ok(Endpoint { host, port })
            }
        }
    }

    fn client(&self, config: &ClientConfig) -> Result<HttpClient, String> {
        let mut clients = self.clients.lock();
        clients.clock += 1;
        let now = clients.clock;
        if let Some((client, used)) = clients.known.get_mut(config) {
            *used = now;
            return Ok(client.clone());
        }
        let made = self.made(config)?;
        if clients.known.len() >= limits::CLIENTS {
            let oldest = clients.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(config, _)| config.clone()) {
                clients.known.remove(&oldest);
            }
        }
        clients.known.insert(config.clone(), (made.clone(), now));
        Ok(made)
    }

    fn made(&self, config: &ClientConfig) -> Result<HttpClient, String> {
        let (host, _) = config.address()?;
        let name = match &config.target {
            Target::Service(s) => s.server_name(),
            _ => split_port(&host).0.trim_matches(['[', ']']).to_string(),
        };
        let tls = client_config(&Verification::of_bundle(&config.ca_bundle), None)?;
        pool(&self.names, tls, &name)
    }
}

/// Why a call came to nothing: on the way, or by its answer.
enum Failed {
    Way(String),
    Answer(CallError),
}

/// `host:port`; the port is 443 where there is none.
fn split_port(host: &str) -> (&str, u16) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().unwrap_or(443)),
        _ => (host, 443),
    }
}
