//! Users that a front proxy tells by headers. The proxy shows a certificate that the front proxies' CA vouches for
//! (checked during the TLS handshake) with a name that is allowed; without one, the headers mean nothing.
//! Upstream: k8s.io/apiserver/pkg/authentication/request/headerrequest.

use async_trait::async_trait;
use http::HeaderMap;
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials, User};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Headers that tell the name, the UID, the groups; what those of `extra` begin with.
pub const USER: &str = "X-Remote-User";
pub const UID: &str = "X-Remote-Uid";
pub const GROUP: &str = "X-Remote-Group";
pub const EXTRA: &str = "X-Remote-Extra-";

/// Takes a proxy's word.
pub struct RequestHeader {
    /// Common names of proxies; none: any.
    allowed: Vec<String>,
}

// === RequestHeader ===

impl RequestHeader {
    /// Trusts proxies of these common names.
    pub fn new(allowed: &[&str]) -> Self {
        Self {
            allowed: allowed.iter().map(|n| (*n).to_string()).collect(),
        }
    }

    /// Whether a proxy of this certificate is trusted at `now`, in seconds since 1970.
    fn check(&self, leaf: &[u8], now: i64) -> Result<(), ApiError> {
        let bad = |why: String| ApiError::new(401, "Unauthorized", format!("x509: {why}"));
        let (_, cert) = X509Certificate::from_der(leaf).map_err(|e| bad(e.to_string()))?;
        // Connections may outlive their certificate.
        if now > cert.validity().not_after.timestamp() {
            return Err(bad("certificate has expired or is not yet valid".into()));
        }
        let name = cert.subject().iter_common_name().last();
        let name = name.and_then(|n| n.as_str().ok()).unwrap_or_default();
        if self.allowed.is_empty() || self.allowed.iter().any(|a| a == name) {
            return Ok(());
        }
        Err(bad(format!(
            "subject with cn={name} is not in the allowed list"
        )))
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    fn name(&self) -> &'static str {
        "requestheader"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let Some(leaf) = c.proxy_certificates.first() else {
            return Ok(None);
        };
        self.check(leaf, pki::now())?;
        Ok(user(c.headers).map(|user| Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let all = headers.get_all(name).iter();
    let texts = all.filter_map(|v| std::str::from_utf8(v.as_bytes()).ok());
    texts.filter(|v| !v.is_empty()).collect()
}

/// The user that headers tell; `None` where they name nobody.
fn user(headers: &HeaderMap) -> Option<User> {
    let first = |name| values(headers, name).first().map(|v| (*v).to_string());
    let mut user = User {
        name: first(USER)?,
        uid: first(UID).unwrap_or_default(),
        groups: values(headers, GROUP)
            .iter()
            .map(|g| (*g).to_string())
            .collect(),
        ..User::default()
    };
    let prefix = EXTRA.to_lowercase();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(&prefix) {
            let all = values(headers, name.as_str());
            let known = user.extra.entry(unescaped(key)).or_default();
            known.extend(all.iter().map(|v| (*v).to_string()));
        }
    }
    Some(user)
}

/// A key without its percent-encoding; one that is encoded badly stays as it is.
fn unescaped(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
            return key.to_string();
        };
        out.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::ca::{Ca, LeafRequest};

    #[tokio::test]
    async fn only_a_proxy_may_say_who_somebody_is() {
        let ca = Ca::generate("front", pki::now()).unwrap();
        let chain = |name: &str| -> Vec<Vec<u8>> {
            let leaf = ca.issue(&LeafRequest::client(name, &[])).unwrap();
            let chain = leaf.chain().unwrap();
            chain.iter().map(|c| c.to_vec()).collect()
        };
        let (proxy, other) = (chain("front-proxy-client"), chain("somebody"));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "jane"),
            ("x-remote-uid", "u1"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-a%2fb", "1"),
            ("x-remote-extra-a%2fb", "2"),
            ("x-remote-extra-bad%zz", "3"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let none = HeaderMap::new();
        let auth = RequestHeader::new(&["front-proxy-client"]);
        let of = |proxy_certificates, certificates, headers| Credentials {
            certificates,
            proxy_certificates,
            bearer: None,
            audiences: &[],
            headers,
            path: "/",
        };
        let found = auth.authenticate(&of(&proxy, &[], &headers)).await.unwrap();
        let user = found.unwrap().user;
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u1"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["a/b"], ["1", "2"]);
        assert_eq!(user.extra["bad%zz"], ["3"]);
        // A client's own certificate makes nobody a proxy.
        let found = auth.authenticate(&of(&[], &proxy, &headers)).await.unwrap();
        assert!(found.is_none());
        let found = auth.authenticate(&of(&proxy, &[], &none)).await.unwrap();
        assert!(found.is_none());
        let e = auth
            .authenticate(&of(&other, &[], &headers))
            .await
            .unwrap_err();
        assert_eq!(
            e.message,
            "x509: subject with cn=somebody is not in the allowed list"
        );
    }
}
