//! HTTP as probes and hooks speak it: one request a connection, any certificate is good, errors in Go's words.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{HTTPGetAction, HTTPHeader};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use crate::limits;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The first bytes of the body.
    pub body: String,
}

/// Why there was no answer.
#[derive(Debug)]
pub struct HttpError {
    pub message: String,
    /// The server spoke HTTP where HTTPS was asked.
    pub plain: bool,
}

/// `host:port` with brackets where needed.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Opens a connection; the error is Go's text.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let address = join(host, port);
    let bare = host.trim_matches(['[', ']']);
    let ip = match bare {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // Names of the cluster are not known here, and the host's resolver is not asked.
        _ => bare
            .parse()
            .map_err(|_| format!("dial tcp: lookup {bare}: no such host"))?,
    };
    match TcpStream::connect((ip, port)).await {
        Ok(stream) => Ok(stream),
        Err(e) => Err(format!("dial tcp {address}: connect: {}", errno(&e))),
    }
}

fn errno(e: &std::io::Error) -> String {
    use std::io::ErrorKind as K;
    match e.kind() {
        K::ConnectionRefused => "connection refused".into(),
        K::HostUnreachable => "no route to host".into(),
        K::NetworkUnreachable => "network is unreachable".into(),
        K::ConnectionReset => "connection reset by peer".into(),
        K::TimedOut => "connection timed out".into(),
        _ => e.to_string().to_lowercase(),
    }
}

/// The URL of an action against a host and port.
pub fn url(action: &HTTPGetAction, default_host: &str, port: u16) -> String {
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = action.host.as_deref().filter(|h| !h.is_empty());
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!(
        "{scheme}://{}{slash}{path}",
        join(host.unwrap_or(default_host), port)
    )
}

/// The headers of an action; `agent` is added unless given.
pub fn headers(given: &[HTTPHeader], agent: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut no_accept = false;
    for h in given {
        if h.name.eq_ignore_ascii_case("accept") && h.value.is_empty() {
            no_accept = true;
            continue;
        }
        let name = HeaderName::from_bytes(h.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&h.value)) {
            map.append(name, value);
        }
    }
    if !map.contains_key(http::header::USER_AGENT)
        && let Ok(agent) = HeaderValue::from_str(agent)
    {
        map.insert(http::header::USER_AGENT, agent);
    }
    if !no_accept && !map.contains_key(http::header::ACCEPT) {
        map.insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
    }
    map
}

/// GETs a URL within a time.
pub async fn get(url: &str, headers: &HeaderMap, limit: Duration) -> Result<Answer, HttpError> {
    let fail = |message: String| HttpError {
        message: format!("Get {url:?}: {message}"),
        plain: false,
    };
    match tokio::time::timeout(limit, exchange(url, headers)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(HttpError {
            plain: e.plain,
            ..fail(e.message)
        }),
        Err(_) => Err(fail(
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into(),
        )),
    }
}

async fn exchange(url: &str, headers: &HeaderMap) -> Result<Answer, HttpError> {
    let plainly = |message: String| HttpError {
        message,
        plain: false,
    };
    let uri: Uri = url.parse().map_err(|e| plainly(format!("parse: {e}")))?;
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().to_string();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = dial(&host, port).await.map_err(plainly)?;
    // A failure only costs latency.
    let _ = stream.set_nodelay(true);
    let mut request = Request::get(uri.path_and_query().map_or("/", |p| p.as_str()));
    if let Some(map) = request.headers_mut() {
        map.extend(headers.clone());
        map.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        if !map.contains_key(http::header::HOST)
            && let Ok(value) = HeaderValue::from_str(uri.authority().map_or("", |a| a.as_str()))
        {
            map.insert(http::header::HOST, value);
        }
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| plainly(e.to_string()))?;
    if https {
        let bare = host.trim_matches(['[', ']']).to_string();
        let name = ServerName::try_from(bare).map_err(|e| plainly(e.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(any_certificate().map_err(plainly)?);
        let stream = connector.connect(name, stream).await.map_err(tls_error)?;
        answer(TokioIo::new(stream), request).await.map_err(plainly)
    } else {
        answer(TokioIo::new(stream), request).await.map_err(plainly)
    }
}

fn tls_error(e: std::io::Error) -> HttpError {
    let text = e.to_string();
    let plain = text.contains("corrupt message") || text.contains("InvalidContentType");
    let message = if plain {
        "http: server gave HTTP response to HTTPS client".into()
    } else {
        text
    };
    HttpError { message, plain }
}

async fn answer<I>(io: I, request: Request<Empty<Bytes>>) -> Result<Answer, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(io).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| {
        if e.is_incomplete_message() || e.is_canceled() {
            "EOF".to_string()
        } else {
            e.to_string()
        }
    });
    let done = match response {
        Ok(response) => {
            let (parts, mut body) = response.into_parts();
            let mut start = Vec::new();
            while start.len() < limits::PROBE_BODY {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        start.extend_from_slice(frame.data_ref().map_or(&[], |d| d));
                    }
                    // A body that breaks off does not change the status.
                    Some(Err(_)) | None => break,
                }
            }
            start.truncate(limits::PROBE_BODY);
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: String::from_utf8_lossy(&start).into_owned(),
            })
        }
        Err(e) => Err(e),
    };
    driver.abort();
    done
}

fn any_certificate() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Probes ask whether a server answers, not who it is. Upstream does the same.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
