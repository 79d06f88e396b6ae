//! Users by client certificate: common name and organizations. The chain was verified against the client
//! CA during the TLS handshake. Upstream: k8s.io/apiserver/pkg/authentication/request/x509.

use std::collections::HashMap;
use std::fmt::Write as _;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials, User};
use parking_lot::Mutex;
use ring::digest;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::limits;

/// Key of `extra` that names the credential, as in audit logs.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// The subject's attribute that holds a UID: 1.3.6.1.4.1.57683.2 (Kubernetes).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Knows users by their certificate.
#[derive(Default)]
pub struct X509 {
    /// Users of certificates seen before, with the end of the certificate: reading one costs several µs.
    known: Mutex<HashMap<Box<[u8]>, Known>>,
}

/// A user and the end of his certificate, in seconds since 1970.
type Known = (User, i64);

// === X509 ===

impl X509 {
    /// The user of a verified leaf at `now`, in seconds since 1970. Connections may outlive their certificate,
    /// so its end is checked at each request.
    fn user(&self, leaf: &[u8], now: i64) -> Result<Option<User>, ApiError> {
        let known = self.known.lock().get(leaf).cloned();
        let (user, end) = match known {
            Some(found) => found,
            None => {
                let Some(found) = read(leaf)? else {
                    return Ok(None);
                };
                let mut known = self.known.lock();
                if known.len() >= limits::KNOWN_CERTIFICATES_MAX {
                    known.clear();
                }
                known.insert(leaf.into(), found.clone());
                found
            }
        };
        if now > end {
            let why = "x509: certificate has expired or is not yet valid";
            return Err(ApiError::new(401, "Unauthorized", why));
        }
        Ok(Some(user))
    }
}

#[async_trait]
impl Authenticator for X509 {
    fn name(&self) -> &'static str {
        "x509"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let Some(leaf) = c.certificates.first() else {
            return Ok(None);
        };
        let user = self.user(leaf, pki::now())?;
        Ok(user.map(|user| Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// The user that a DER certificate names; `None` where it has no common name. Does not verify anything.
pub fn user_of(der: &[u8]) -> Result<Option<User>, ApiError> {
    Ok(read(der)?.map(|(user, _)| user))
}

/// The user, and the end of the certificate in seconds since 1970.
fn read(der: &[u8]) -> Result<Option<Known>, ApiError> {
    let bad = |why: String| ApiError::new(401, "Unauthorized", format!("x509: {why}"));
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
    let subject = cert.subject();
    let mut user = User::default();
    if let Some(cn) = subject.iter_common_name().last() {
        user.name = cn.as_str().map_err(|e| bad(e.to_string()))?.to_string();
    }
    if user.name.is_empty() {
        return Ok(None);
    }
    for o in subject.iter_organization() {
        user.groups
            .push(o.as_str().map_err(|e| bad(e.to_string()))?.to_string());
    }
    let uids: Vec<_> = subject
        .iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == UID_OID)
        .collect();
    match uids.as_slice() {
        [] => {}
        [uid] => user.uid = uid.as_str().map_err(|e| bad(e.to_string()))?.to_string(),
        _ => return Err(bad("unable to parse UID: more than one".into())),
    }
    let mut id = String::from("X509SHA256=");
    for byte in digest::digest(&digest::SHA256, der).as_ref() {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
    }
    user.extra.insert(CREDENTIAL_ID.into(), vec![id]);
    Ok(Some((user, cert.validity().not_after.timestamp())))
}
