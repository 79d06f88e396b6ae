//! Whom webhooks' certificates must be from.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Where Linux distributions keep the certificates they trust.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Settings that trust a bundle (base64 of PEM, as `caBundle` has it), or the machine's where it is empty.
pub fn settings(bundle: &str) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder
        .with_root_certificates(roots(bundle)?)
        .with_no_client_auth())
}

fn roots(bundle: &str) -> Result<RootCertStore, String> {
    use base64::Engine;
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        roots.add_parsable_certificates(trusted_here()?);
        return Ok(roots);
    }
    let pem = base64::prelude::BASE64_STANDARD
        .decode(bundle)
        .map_err(|e| format!("caBundle is no base64: {e}"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| format!("caBundle: {e}"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("caBundle: {e}"))?;
    }
    Ok(roots)
}

/// The machine's own authorities; none where it has no bundle.
fn trusted_here() -> Result<Vec<CertificateDer<'static>>, String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let all = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    let Some(path) = all.into_iter().find(|p| p.is_file()) else {
        return Ok(Vec::new());
    };
    CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Why TLS did not come about, in Go's words where they are known.
pub fn cause(error: &std::io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return error.to_string();
    };
    let text = match why {
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "x509: certificate has expired or is not yet valid".into()
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {text}")
}
