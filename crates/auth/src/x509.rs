//! Users by client certificate: common name and organizations. The chain was verified against the client
//! CA during the TLS handshake. Upstream: k8s.io/apiserver/pkg/authentication/request/x509.

use std::fmt::Write as _;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials, User};
use ring::digest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Key of `extra` that names the credential, as in audit logs.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// The subject's attribute that holds a UID: 1.3.6.1.4.1.57683.2 (Kubernetes).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Knows users by their certificate.
pub struct X509;

#[async_trait]
impl Authenticator for X509 {
    fn name(&self) -> &'static str {
        "x509"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let Some(leaf) = c.certificates.first() else {
            return Ok(None);
        };
        let user = user_of(leaf)?;
        Ok(user.map(|user| Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// The user that a DER certificate names; `None` where it has no common name. Does not verify anything.
pub fn user_of(der: &[u8]) -> Result<Option<User>, ApiError> {
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
    Ok(Some(user))
}
