//! GETs of small documents from servers that a configuration names: an OIDC issuer's discovery document and keys.
//! Each has a deadline and a bound; redirects are followed to other https URLs, as Go's client does.
//! Proxies of the environment are not used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, LOCATION, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use machinery::causes::go_quote;
use parking_lot::Mutex;

use crate::caller::{HttpClient, pool};
use crate::error::cause;
use crate::limits;
use crate::names::Names;
use crate::tls::{Verification, client_config};

/// Fetches documents from servers that one bundle vouches for. Connections are kept between calls.
pub struct Fetcher {
    names: Names,
    tls: Arc<rustls::ClientConfig>,
    /// By host.
    clients: Mutex<HashMap<String, HttpClient>>,
}

/// An answer, whatever its code.
#[derive(Debug)]
pub struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

// === Fetcher ===

impl Fetcher {
    /// A fetcher that trusts these authorities. The error is client-go's text.
    pub fn new(verification: &Verification) -> Result<Self, String> {
        Ok(Self {
            names: Names::default(),
            tls: client_config(verification, None)?,
            clients: Mutex::default(),
        })
    }

    /// Gets a document of at most `max` bytes within `timeout`. The error is in the words of Go's client.
    pub async fn get(
        &self,
        url: &str,
        bearer: Option<&str>,
        timeout: Duration,
        max: usize,
    ) -> Result<Fetched, String> {
        match tokio::time::timeout(timeout, self.follow(url, bearer, max)).await {
            Ok(done) => done,
            Err(_) => Err(format!(
                "Get {}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                go_quote(url)
            )),
        }
    }

    async fn follow(&self, url: &str, bearer: Option<&str>, max: usize) -> Result<Fetched, String> {
        let mut at = parse(url)?;
        let first = at.authority().cloned();
        for _ in 0..limits::REDIRECTS {
            // A token is for the server it was meant for, and no other.
            let bearer = bearer.filter(|_| at.authority() == first.as_ref());
            let failed = |why: String| format!("Get {}: {why}", go_quote(&at.to_string()));
            let answer = self.once(&at, bearer).await.map_err(failed)?;
            let moved = [301, 302, 303, 307, 308].contains(&answer.status().as_u16());
            let location = answer.headers().get(LOCATION).filter(|_| moved);
            if let Some(to) = location.and_then(|l| l.to_str().ok()) {
                at = joined(&at, to).map_err(failed)?;
                continue;
            }
            return read(answer, max).await.map_err(failed);
        }
        let n = limits::REDIRECTS;
        Err(format!(
            "Get {}: stopped after {n} redirects",
            go_quote(url)
        ))
    }

    async fn once(&self, at: &Uri, bearer: Option<&str>) -> Result<Response<Incoming>, String> {
        let host = at.host().unwrap_or_default();
        let authority = at.authority().map(|a| a.as_str()).unwrap_or_default();
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(at)
            .header(HOST, authority)
            .header(USER_AGENT, "kube-apiserver");
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::default()).map_err(|e| e.to_string())?;
        let answer = self.client(host)?.request(request).await;
        answer.map_err(|e| cause(&e))
    }

    fn client(&self, host: &str) -> Result<HttpClient, String> {
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get(host) {
            return Ok(known.clone());
        }
        let name = host.trim_matches(['[', ']']);
        let made = pool(&self.names, self.tls.clone(), name)?;
        if clients.len() >= limits::FETCH_HOSTS {
            clients.clear();
        }
        clients.insert(host.to_string(), made.clone());
        Ok(made)
    }
}

fn parse(url: &str) -> Result<Uri, String> {
    let parsed = url.parse::<Uri>();
    let uri = parsed.map_err(|e| format!("Get {}: {e}", go_quote(url)))?;
    match uri.scheme_str() {
        Some("https") if uri.host().is_some() => Ok(uri),
        _ => Err(format!("Get {}: only https is spoken", go_quote(url))),
    }
}

/// Where a redirect goes.
fn joined(from: &Uri, to: &str) -> Result<Uri, String> {
    if !to.starts_with('/') || to.starts_with("//") {
        let to = match to.strip_prefix("//") {
            Some(rest) => format!("https://{rest}"),
            None => to.to_string(),
        };
        return parse(&to);
    }
    let authority = from.authority().map(|a| a.as_str()).unwrap_or_default();
    parse(&format!("https://{authority}{to}"))
}

async fn read(answer: Response<Incoming>, max: usize) -> Result<Fetched, String> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, max).collect().await.map_err(|e| {
        if e.is::<http_body_util::LengthLimitError>() {
            format!("response is longer than {max} bytes")
        } else {
            cause(&*e)
        }
    })?;
    Ok(Fetched {
        status: parts.status,
        headers: parts.headers,
        body: body.to_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_https() {
        let from: Uri = "https://a:1/x".parse().unwrap();
        for (to, wanted) in [
            ("/y?z", Ok("https://a:1/y?z")),
            ("//b/y", Ok("https://b/y")),
            ("https://c/", Ok("https://c/")),
            ("http://c/", Err(())),
            ("y", Err(())),
        ] {
            let got = joined(&from, to).map(|u| u.to_string()).map_err(drop);
            assert_eq!(got, wanted.map(str::to_string), "{to}");
        }
    }
}
