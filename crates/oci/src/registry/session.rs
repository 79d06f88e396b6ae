//! One pull's conversation with the hosts of a registry.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;

use super::auth::{Challenge, challenges, query};
use super::hosts::{Host, hosts};
use super::transport::{HttpClient, Names, cause, client};
use super::{Auth, RegistryOptions};
use crate::digest::Digest;
use crate::error::Error;
use crate::limits;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;

const DIGEST_HEADER: &str = "docker-content-digest";
const AGENT: &str = concat!("k0s/", env!("CARGO_PKG_VERSION"));

/// The hosts of one repository, and what they were told about us.
pub struct Session {
    hosts: Vec<(Host, HttpClient)>,
    auth: Auth,
    repository: String,
    reference: Reference,
    /// `Authorization` by host.
    tokens: Mutex<BTreeMap<String, String>>,
}

/// A token server's answer.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

// === Session ===

impl Session {
    /// Prepares the hosts of a reference's registry; nothing is sent yet.
    pub fn new(
        options: &RegistryOptions,
        reference: &Reference,
        auth: Auth,
    ) -> Result<Self, Error> {
        let names = Names::of_host()?;
        let found = hosts(options.config_path.as_deref(), reference.domain())?;
        let hosts = found
            .into_iter()
            .map(|host| client(&names, &host.tls).map(|client| (host, client)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            auth,
            repository: reference.path().to_string(),
            reference: reference.clone(),
            tokens: Mutex::default(),
        })
    }

    /// What the reference leads to.
    pub async fn resolve(&self) -> Result<Digest, Error> {
        let wanted = match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => "latest".to_string(),
        };
        let mut first = None;
        for (host, client) in self.hosts.iter().filter(|(h, _)| h.resolve) {
            match self.head(host, client, &wanted).await {
                Ok(digest) => return Ok(digest),
                Err(e) => keep(&mut first, e),
            }
        }
        Err(first.unwrap_or_else(|| Error::NotFound(self.reference.to_string())))
    }

    async fn head(&self, host: &Host, client: &HttpClient, wanted: &str) -> Result<Digest, Error> {
        let url = self.url(host, "manifests", wanted);
        let head = self
            .send(host, client, Method::HEAD, &url, &manifests())
            .await?;
        let given = self.reference.digest();
        let said = head
            .headers()
            .get(DIGEST_HEADER)
            .and_then(|v| v.to_str().ok());
        let digest = match said {
            Some(text) => Digest::parse(text)?,
            None => {
                // An old registry: the bytes tell.
                let answer = self
                    .send(host, client, Method::GET, &url, &manifests())
                    .await?;
                Digest::of(&whole(answer, limits::MANIFEST_BYTES, &url).await?)
            }
        };
        match given {
            Some(given) if *given != digest => Err(Error::Mismatch {
                what: self.reference.to_string(),
                expected: given.to_string(),
                found: digest.to_string(),
            }),
            _ => Ok(digest),
        }
    }

    /// Fetches a manifest or index and checks its digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        self.document("manifests", digest, limits::MANIFEST_BYTES)
            .await
    }

    /// Fetches a small blob and checks its digest.
    pub async fn small_blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Error> {
        self.document("blobs", digest, most).await
    }

    async fn document(&self, kind: &str, digest: &Digest, most: u64) -> Result<Vec<u8>, Error> {
        let mut last = None;
        for (host, client) in self.hosts.iter().filter(|(h, _)| h.pull) {
            let url = self.url(host, kind, digest.as_str());
            let fetched = match self
                .send(host, client, Method::GET, &url, &manifests())
                .await
            {
                Ok(answer) => whole(answer, most, &url).await,
                Err(e) => Err(e),
            };
            match fetched {
                Ok(data) if digest.matches(&data) => return Ok(data),
                Ok(data) => {
                    last = Some(Error::Mismatch {
                        what: url,
                        expected: digest.to_string(),
                        found: Digest::of(&data).to_string(),
                    });
                }
                Err(e) => keep(&mut last, e),
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound(digest.to_string())))
    }

    /// Opens a blob at an offset. Gives the body and the offset at which it really begins.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<(Incoming, u64), Error> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.insert(RANGE, range.map_err(|e| Error::malformed("range", e))?);
        }
        let mut first = None;
        for (host, client) in self.hosts.iter().filter(|(h, _)| h.pull) {
            let url = self.url(host, "blobs", digest.as_str());
            match self.send(host, client, Method::GET, &url, &headers).await {
                Ok(answer) if answer.status() == StatusCode::PARTIAL_CONTENT => {
                    return Ok((answer.into_body(), offset));
                }
                Ok(answer) => return Ok((answer.into_body(), 0)),
                Err(e) => keep(&mut first, e),
            }
        }
        Err(first.unwrap_or_else(|| Error::NotFound(digest.to_string())))
    }

    fn url(&self, host: &Host, kind: &str, name: &str) -> String {
        let Host {
            scheme,
            authority,
            path,
            namespace,
            ..
        } = host;
        let ns = namespace
            .as_deref()
            .map(|n| format!("?ns={}", query(n)))
            .unwrap_or_default();
        format!(
            "{scheme}://{authority}{path}/{}/{kind}/{name}{ns}",
            self.repository
        )
    }

    /// Sends a request, answers a challenge once, and turns bad statuses into errors.
    async fn send(
        &self,
        host: &Host,
        client: &HttpClient,
        method: Method,
        url: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Error> {
        let mut headers = headers.clone();
        for (name, value) in &host.headers {
            headers.append(name, value.clone());
        }
        let known = self.tokens.lock().get(&host.authority).cloned();
        let answer = follow(client, &method, url, &headers, known.as_deref()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.check(&method, url, answer).await;
        }
        let token = self.answer(client, host, answer.headers()).await?;
        {
            let mut tokens = self.tokens.lock();
            if tokens.len() < limits::TOKENS {
                tokens.insert(host.authority.clone(), token.clone());
            }
        }
        let answer = follow(client, &method, url, &headers, Some(&token)).await?;
        self.check(&method, url, answer).await
    }

    async fn check(
        &self,
        method: &Method,
        url: &str,
        answer: Response<Incoming>,
    ) -> Result<Response<Incoming>, Error> {
        match answer.status() {
            s if s.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => Err(Error::NotFound(self.reference.to_string())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Denied(
                "server message: insufficient_scope: authorization failed".to_string(),
            )),
            _ => Err(status(method, url, answer).await),
        }
    }

    /// The `Authorization` that a challenge asks for.
    async fn answer(
        &self,
        client: &HttpClient,
        host: &Host,
        headers: &HeaderMap,
    ) -> Result<String, Error> {
        if !self.auth.registry_token.is_empty() {
            return Ok(format!("Bearer {}", self.auth.registry_token));
        }
        let listed: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(challenges)
            .collect();
        // Tokens before passwords.
        let bearer = listed
            .iter()
            .find(|c| matches!(c, Challenge::Bearer { .. }));
        match bearer.or(listed.first()) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
                error,
            }) => {
                let told = self.tokens.lock().contains_key(&host.authority);
                if error == "insufficient_scope" && told {
                    let text = format!("server message: {error}: authorization failed");
                    return Err(Error::Denied(text));
                }
                self.token(client, realm, service, scope).await
            }
            Some(Challenge::Basic) => self.basic().ok_or_else(|| {
                Error::Denied("authorization failed: no basic auth credentials".to_string())
            }),
            None => Err(Error::Denied("authorization failed".to_string())),
        }
    }

    fn basic(&self) -> Option<String> {
        let Auth {
            username, password, ..
        } = &self.auth;
        if username.is_empty() && password.is_empty() {
            return None;
        }
        let pair = format!("{username}:{password}");
        Some(format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    }

    async fn token(
        &self,
        client: &HttpClient,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<String, Error> {
        let default = format!("repository:{}:pull", self.repository);
        let scope = if scope.is_empty() {
            default.as_str()
        } else {
            scope
        };
        let fields = format!("service={}&scope={}", query(service), query(scope));
        let kind = if self.basic().is_some() {
            "oauth"
        } else {
            "anonymous"
        };
        let failed = |e: Error| Error::Authorize(format!("failed to fetch {kind} token: {e}"));
        let answer = if self.auth.identity_token.is_empty() {
            let joint = if realm.contains('?') { '&' } else { '?' };
            let url = format!("{realm}{joint}{fields}");
            let basic = self.basic();
            let answer = follow(
                client,
                &Method::GET,
                &url,
                &HeaderMap::new(),
                basic.as_deref(),
            )
            .await;
            good(&Method::GET, realm, answer).await.map_err(failed)?
        } else {
            let token = query(&self.auth.identity_token);
            let form =
                format!("{fields}&grant_type=refresh_token&client_id=k0s&refresh_token={token}");
            let request = Request::post(realm)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from(form)))
                .map_err(|e| Error::malformed(realm, e))?;
            let answer = send(client, request).await;
            good(&Method::POST, realm, answer).await.map_err(failed)?
        };
        let data = whole(answer, limits::TEXT_BYTES, realm)
            .await
            .map_err(failed)?;
        let token: Token = serde_json::from_slice(&data)
            .map_err(|e| Error::Authorize(format!("unable to decode token response: {e}")))?;
        let text = if token.token.is_empty() {
            token.access_token
        } else {
            token.token
        };
        if text.is_empty() {
            return Err(Error::Authorize(
                "authorization server did not include a token in the response".to_string(),
            ));
        }
        Ok(format!("Bearer {text}"))
    }
}

/// Keeps the more telling of two hosts' errors, the first of equals; containerd's order.
fn keep(kept: &mut Option<Error>, error: Error) {
    let rank = |e: &Error| match e.root() {
        Error::Request { .. } => 1,
        Error::NotFound(_) => 2,
        Error::Status { .. } => 3,
        _ => 4,
    };
    if kept.as_ref().is_none_or(|k| rank(k) < rank(&error)) {
        *kept = Some(error);
    }
}

/// What manifests may be.
fn manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let list = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"].join(", ");
    if let Ok(value) = HeaderValue::from_str(&list) {
        headers.insert(ACCEPT, value);
    }
    headers
}

/// Sends a request and follows redirects; credentials stay with the host they are for.
async fn follow(
    client: &HttpClient,
    method: &Method,
    url: &str,
    headers: &HeaderMap,
    authorization: Option<&str>,
) -> Result<Response<Incoming>, Error> {
    let mut here: http::Uri = url.parse().map_err(|e| Error::malformed(url, e))?;
    let origin = here.authority().cloned();
    for _ in 0..=limits::REDIRECTS {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method.clone();
        *request.uri_mut() = here.clone();
        *request.headers_mut() = headers.clone();
        if let (Some(text), true) = (authorization, here.authority() == origin.as_ref()) {
            let mut value =
                HeaderValue::from_str(text).map_err(|e| Error::malformed("credentials", e))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let answer = send(client, request).await?;
        if !answer.status().is_redirection() {
            return Ok(answer);
        }
        let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let location = location.ok_or_else(|| Error::malformed(url, "a redirect to nowhere"))?;
        let next = join(&here, location).ok_or_else(|| Error::malformed(location, "no address"))?;
        if here.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(Error::malformed(location, "a redirect from https to http"));
        }
        here = next;
    }
    Err(Error::malformed(
        url,
        format!("stopped after {} redirects", limits::REDIRECTS),
    ))
}

fn join(base: &http::Uri, location: &str) -> Option<http::Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    let authority = base.authority()?;
    let scheme = base.scheme_str()?;
    if location.starts_with("//") {
        return format!("{scheme}:{location}").parse().ok();
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let folder = base.path().rsplit_once('/').map_or("", |(f, _)| f);
    format!("{scheme}://{authority}{folder}/{location}")
        .parse()
        .ok()
}

async fn send(
    client: &HttpClient,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Error> {
    request
        .headers_mut()
        .insert("user-agent", HeaderValue::from_static(AGENT));
    let (method, url) = (request.method().clone(), request.uri().to_string());
    // As Go prints it: Head, Get, Post.
    let mut name = method.as_str().to_ascii_lowercase();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let failed = |cause: String| Error::Request {
        method: name.clone(),
        url: url.clone(),
        cause,
    };
    let patience = Duration::from_secs(limits::ANSWER_SECONDS);
    match tokio::time::timeout(patience, client.request(request)).await {
        Err(_) => Err(failed(
            "net/http: timeout awaiting response headers".to_string(),
        )),
        Ok(Err(e)) => Err(failed(cause(&e, e.is_connect()))),
        Ok(Ok(answer)) => Ok(answer),
    }
}

async fn good(
    method: &Method,
    url: &str,
    answer: Result<Response<Incoming>, Error>,
) -> Result<Response<Incoming>, Error> {
    let answer = answer?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(status(method, url, answer).await)
}

async fn status(method: &Method, url: &str, answer: Response<Incoming>) -> Error {
    let status = answer.status().to_string();
    let body = whole(answer, limits::TEXT_BYTES, url)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    let detail = match text.trim() {
        "" => String::new(),
        text => format!(": {}", text.chars().take(1024).collect::<String>()),
    };
    Error::Status {
        method: method.to_string(),
        url: url.to_string(),
        status,
        detail,
    }
}

/// A bounded body.
async fn whole(answer: Response<Incoming>, most: u64, what: &str) -> Result<Vec<u8>, Error> {
    let too_long = || Error::Limit {
        what: what.to_string(),
        limit: most,
    };
    let said = answer
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|n| n > most) && answer.status().is_success() {
        return Err(too_long());
    }
    let mut body = answer.into_body();
    let mut data = Vec::new();
    let patience = Duration::from_secs(limits::STALL_SECONDS);
    loop {
        let failed = |cause: String| Error::Request {
            method: "Get".to_string(),
            url: what.to_string(),
            cause,
        };
        let frame = tokio::time::timeout(patience, body.frame())
            .await
            .map_err(|_| failed("i/o timeout".to_string()))?;
        let Some(frame) = frame else {
            return Ok(data);
        };
        let frame = frame.map_err(|e| failed(cause(&e, false)))?;
        if let Some(chunk) = frame.data_ref() {
            data.extend_from_slice(chunk);
            if data.len() as u64 > most {
                return Err(too_long());
            }
        }
    }
}
