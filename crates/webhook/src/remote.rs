//! A server that a kubeconfig file names, POSTed to: token and access reviews of `--authentication-token-webhook-config-file`
//! and authorization webhooks. Upstream: k8s.io/apiserver/pkg/util/webhook, `LoadKubeconfig` and `NewGenericWebhook`.
//! exec plugins, auth providers and proxies are refused by name; http URLs as well.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::caller::{HttpClient, pool};
use crate::config::{ClientConfig, Target};
use crate::error::{self, CallError};
use crate::limits;
use crate::names::Names;
use crate::tls::{Identity, Verification, client_config};

/// A server and who we are to it.
pub struct Remote {
    client: HttpClient,
    target: ClientConfig,
    authorization: Authorization,
}

enum Authorization {
    None,
    Header(HeaderValue),
    /// Read at each call, as it may be renewed.
    TokenFile(PathBuf),
}

/// A call that came to nothing, and what kind of nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    pub error: CallError,
    pub timed_out: bool,
    /// The server may do better next time: upstream's DefaultShouldRetry.
    pub retry: bool,
}

// === Remote ===

impl Remote {
    /// The server of a kubeconfig file's current context.
    pub fn open(path: &Path) -> Result<Self, String> {
        let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let config = Kubeconfig::read_from(path).map_err(|e| shown(&e))?;
        let (cluster, user) = current(&config).map_err(|e| shown(&e))?;
        Self::new(&cluster, &user).map_err(|e| shown(&e))
    }

    fn new(cluster: &Cluster, user: &AuthInfo) -> Result<Self, String> {
        let server = cluster.server.clone().unwrap_or_default();
        let uri: Uri = server.parse().map_err(|e| format!("server: {e}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("server: {server:?} must use https"));
        }
        if cluster.proxy_url.is_some() {
            return Err("proxy-url is not supported".into());
        }
        let ca = data(
            "certificate-authority",
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
        )?;
        let verification = match (cluster.insecure_skip_tls_verify, ca.as_deref()) {
            (Some(true), Some(_)) => {
                return Err(
                    "specifying a root certificates file with the insecure flag is not allowed"
                        .into(),
                );
            }
            (Some(true), None) => Verification::Nobody,
            (_, ca) => Verification::of_bundle(ca.unwrap_or_default()),
        };
        let tls = client_config(&verification, identity(user)?)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = cluster.tls_server_name.as_deref().unwrap_or(host);
        Ok(Self {
            client: pool(&Names::default(), tls, name)?,
            target: ClientConfig {
                target: Target::Url(server),
                ca_bundle: Vec::new(),
            },
            authorization: authorization(user)?,
        })
    }

    /// POSTs JSON and gives the answer's body, at most `max` bytes of it, within `timeout`.
    pub async fn post(
        &self,
        body: Bytes,
        timeout: Duration,
        max: usize,
    ) -> Result<(u16, Bytes), Failure> {
        let (host, target) = self.target.url(timeout).map_err(failed)?;
        let url = format!("https://{host}{target}");
        match tokio::time::timeout(timeout, self.exchange(&url, &host, body, max)).await {
            Ok(done) => done,
            Err(_) => Err(Failure {
                error: CallError::posting(
                    &url,
                    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                ),
                timed_out: true,
                retry: false,
            }),
        }
    }

    async fn exchange(
        &self,
        url: &str,
        host: &str,
        body: Bytes,
        max: usize,
    ) -> Result<(u16, Bytes), Failure> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(HOST, host)
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "kube-apiserver");
        if let Some(value) = self.authorization.value().await.map_err(failed)? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body));
        let request = request.map_err(|e| failed(e.to_string()))?;
        let answer = self.client.request(request).await.map_err(|e| {
            let why = error::cause(&e);
            let reset = why.contains("connection reset") || why.contains("reset by peer");
            Failure {
                error: CallError::posting(url, why),
                timed_out: false,
                retry: reset,
            }
        })?;
        let (parts, body) = answer.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        let too_long = || failed(format!("response is longer than {max} bytes"));
        if length.is_some_and(|n| n > max) {
            return Err(too_long());
        }
        let body = match Limited::new(body, max).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => return Err(too_long()),
            Err(e) => return Err(failed(error::cause(&*e))),
        };
        let code = parts.status.as_u16();
        if (200..=206).contains(&code) {
            return Ok((code, body));
        }
        let kind = parts.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|v| v.to_str().ok());
        Err(Failure {
            error: CallError::answered(code, kind.is_some_and(|k| k.starts_with("text/")), &body),
            timed_out: code == 504,
            retry: [429, 500, 504].contains(&code) || parts.headers.contains_key(RETRY_AFTER),
        })
    }
}

impl Authorization {
    async fn value(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::Header(value) => Ok(Some(value.clone())),
            Self::TokenFile(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|e| format!("{}: {e}", path.display()))?;
                header("Bearer", text.trim()).map(Some)
            }
        }
    }
}

fn failed(text: String) -> Failure {
    Failure {
        error: CallError::new(text),
        timed_out: false,
        retry: false,
    }
}

fn header(scheme: &str, value: &str) -> Result<HeaderValue, String> {
    let made = HeaderValue::from_str(&format!("{scheme} {value}"));
    let mut made = made.map_err(|_| "the credentials are no header".to_string())?;
    made.set_sensitive(true);
    Ok(made)
}

/// The cluster and user of the current context.
fn current(config: &Kubeconfig) -> Result<(Cluster, AuthInfo), String> {
    let name = config.current_context.as_deref().unwrap_or_default();
    let context = config.contexts.iter().find(|c| c.name == name);
    let context = context.and_then(|c| c.context.as_ref());
    let context = context.ok_or_else(|| match name {
        "" => "invalid configuration: no configuration has been provided".to_string(),
        name => format!("context \"{name}\" does not exist"),
    })?;
    let cluster = config.clusters.iter().find(|c| c.name == context.cluster);
    let cluster = cluster.and_then(|c| c.cluster.clone());
    let cluster =
        cluster.ok_or_else(|| format!("cluster \"{}\" does not exist", context.cluster))?;
    let wanted = context.user.as_deref().unwrap_or_default();
    let user = config.auth_infos.iter().find(|u| u.name == wanted);
    match user.and_then(|u| u.auth_info.clone()) {
        Some(user) => Ok((cluster, user)),
        None if wanted.is_empty() => Ok((cluster, AuthInfo::default())),
        None => Err(format!("auth info \"{wanted}\" does not exist")),
    }
}

/// What a field has in itself, as base64, or in a file.
fn data(field: &str, inline: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    if let Some(text) = inline.filter(|t| !t.is_empty()) {
        let decoded = BASE64_STANDARD.decode(text);
        return decoded.map(Some).map_err(|e| format!("{field}-data: {e}"));
    }
    let Some(path) = file.filter(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let size = std::fs::metadata(path).map_err(|e| format!("{field}: {path}: {e}"))?;
    if size.len() > limits::PEM_BYTES {
        return Err(format!("{field}: {path}: the file is too large"));
    }
    let read = std::fs::read(path);
    read.map(Some).map_err(|e| format!("{field}: {path}: {e}"))
}

fn identity(user: &AuthInfo) -> Result<Option<Identity>, String> {
    use secrecy::ExposeSecret as _;
    let key = user.client_key_data.as_ref().map(|k| k.expose_secret());
    let cert = data(
        "client-certificate",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let key = data("client-key", key, user.client_key.as_deref())?;
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
            let chain = chain.map_err(|e| format!("client-certificate: {e}"))?;
            let key = PrivateKeyDer::from_pem_slice(&key);
            let key = key.map_err(|e| format!("client-key: {e}"))?;
            Ok(Some((chain, key)))
        }
        _ => Err("client-certificate and client-key must be specified together".into()),
    }
}

fn authorization(user: &AuthInfo) -> Result<Authorization, String> {
    use secrecy::ExposeSecret as _;
    if user.exec.is_some() {
        return Err("exec plugins are not supported: no executable of the host is run".into());
    }
    if user.auth_provider.is_some() {
        return Err("auth-provider is not supported".into());
    }
    if let Some(path) = user.token_file.as_ref().filter(|p| !p.is_empty()) {
        return Ok(Authorization::TokenFile(path.into()));
    }
    if let Some(token) = &user.token {
        return header("Bearer", token.expose_secret()).map(Authorization::Header);
    }
    let Some(name) = user.username.as_ref().filter(|n| !n.is_empty()) else {
        return Ok(Authorization::None);
    };
    let password = user.password.as_ref().map(|p| p.expose_secret());
    let both = format!("{name}:{}", password.unwrap_or_default());
    header("Basic", &BASE64_STANDARD.encode(both)).map(Authorization::Header)
}
