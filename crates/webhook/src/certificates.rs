//! Servers whose certificates are of an old kind: no subject alternative names, or signatures over SHA-1.
//! Upstream: apiserver/pkg/util/x509metrics, util/webhook/metrics.go.

use std::sync::atomic::{AtomicU64, Ordering};

use machinery::exposition;
use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::prelude::{FromDer, X509Certificate};

/// `ecdsa-with-SHA1` and `sha1WithRSAEncryption`.
const SHA1: [&str; 2] = ["1.2.840.10045.4.1", "1.2.840.113549.1.1.5"];

static MISSING_SAN: AtomicU64 = AtomicU64::new(0);
static INSECURE_SHA1: AtomicU64 = AtomicU64::new(0);

/// Whether a server relies on the common name of its certificate.
fn has_no_names(leaf: &X509Certificate<'_>, server: &ServerName<'_>, refused: bool) -> bool {
    if !matches!(leaf.subject_alternative_name(), Ok(None)) {
        return false;
    }
    let mut common = leaf.subject().iter_common_name();
    let common = common.next().and_then(|n| n.as_str().ok()).unwrap_or("");
    !refused || common.eq_ignore_ascii_case(&server.to_str())
}

/// Whether anybody but its subject signed a certificate with SHA-1.
fn is_weak(certificate: &X509Certificate<'_>) -> bool {
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    SHA1.contains(&algorithm.as_str()) && certificate.issuer() != certificate.subject()
}

/// Counts what is old about the certificates of a server, whether they were refused or not.
pub fn note(
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    server: &ServerName<'_>,
    refused: bool,
) {
    let parse = |der: &'_ [u8]| X509Certificate::from_der(der).map(|(_, c)| is_weak(&c));
    if let Ok((_, leaf)) = X509Certificate::from_der(leaf)
        && has_no_names(&leaf, server, refused)
    {
        MISSING_SAN.fetch_add(1, Ordering::Relaxed);
    }
    let mut all = std::iter::once(leaf).chain(chain);
    if all.any(|der| parse(der).unwrap_or(false)) {
        INSECURE_SHA1.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts as Prometheus text.
pub fn text() -> String {
    let mut out = String::new();
    for (name, help, count) in [
        (
            "apiserver_webhooks_x509_insecure_sha1_total",
            "[BETA] Connections to servers whose certificates are signed over SHA-1.",
            &INSECURE_SHA1,
        ),
        (
            "apiserver_webhooks_x509_missing_san_total",
            "[BETA] Connections to servers whose certificates have no subject alternative names.",
            &MISSING_SAN,
        ),
    ] {
        exposition::heading(&mut out, name, "counter", help);
        exposition::sample(&mut out, name, "", count.load(Ordering::Relaxed));
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls_pki_types::pem::PemObject;

    use super::*;

    /// Signed by a CA over SHA-1; only a common name.
    const OLD: &str = "-----BEGIN CERTIFICATE-----
MIIBITCByQIUUuk5x4OGnfpiYMTYU/0BsfD5uiAwCQYHKoZIzj0EATANMQswCQYD
VQQDDAJjYTAgFw0yNjExMjYxNDE2MDFaGA8yMTI2MTEwMjE0MTYwMVowGjEYMBYG
A1UEAwwPb2xkLmV4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
RZbi2ivoOHry0K+BWjr6d4B9ICjCmlb/G4t7parH+eF/Rr7TZv/DSevfR9+kz3mr
9BPkzusIzxjRJnCOutzRyjAJBgcqhkjOPQQBA0gAMEUCIGop32ps1XRcO1SZB77q
JO2meWeISbahs7A0nUrHc5k7AiEAjho0tR82vlqQCRdiEEydzN/JydwoM5rb5LVB
CS+4hC0=
-----END CERTIFICATE-----";

    #[test]
    fn old_kinds_of_certificates_are_told() {
        let old = CertificateDer::from_pem_slice(OLD.as_bytes()).unwrap();
        let key = KeyPair::generate().unwrap();
        let new = CertificateParams::new(vec!["new.example.com".into()]).unwrap();
        let new = new.self_signed(&key).unwrap();
        for (der, name, refused, nameless, weak) in [
            (old.as_ref(), "old.example.com", true, true, true),
            (old.as_ref(), "other.example.com", true, false, true),
            (old.as_ref(), "other.example.com", false, true, true),
            (new.der().as_ref(), "other.example.com", true, false, false),
        ] {
            let (_, parsed) = X509Certificate::from_der(der).unwrap();
            let server = ServerName::try_from(name).unwrap();
            assert_eq!(has_no_names(&parsed, &server, refused), nameless, "{name}");
            assert_eq!(is_weak(&parsed), weak, "{name}");
        }
    }
}
