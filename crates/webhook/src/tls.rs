//! TLS towards servers that an object of the cluster vouches for by a CA bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates;

/// Where Linux distributions keep the certificates they trust; Go's list.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A chain, leaf first, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Who vouches for a server.
#[derive(Clone, Debug)]
pub enum Verification {
    /// The authorities of a PEM bundle.
    Bundle(Vec<u8>),
    /// Those that the host trusts.
    Host,
    /// Nobody: any certificate will do, as `insecureSkipTLSVerify` says.
    Nobody,
}

impl Verification {
    /// A bundle where there is one, else the host.
    pub fn of_bundle(pem: &[u8]) -> Self {
        if pem.is_empty() {
            Self::Host
        } else {
            Self::Bundle(pem.to_vec())
        }
    }
}

/// The client's side of TLS, HTTP/1.1 only, with an identity to show if there is one. The error is client-go's text.
pub fn client_config(
    verification: &Verification,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own: Vec<CertificateDer<'static>> = match verification {
        Verification::Bundle(pem) => CertificateDer::pem_slice_iter(pem).flatten().collect(),
        Verification::Host | Verification::Nobody => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    match verification {
        Verification::Bundle(_) => {
            let (good, _) = roots.add_parsable_certificates(own.iter().cloned());
            if good == 0 {
                let why = "unable to parse bytes as PEM block";
                return Err(format!("unable to load root certificates: {why}"));
            }
        }
        Verification::Host => host_roots(&mut roots),
        Verification::Nobody => {}
    }
    let inner = match verification {
        Verification::Nobody => None,
        _ => {
            let roots = Arc::new(roots);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            Some(verifier.build().map_err(|e| e.to_string())?)
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Vouched {
            inner,
            own,
            provider,
        }));
    let mut config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| e.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The host's bundle, or Mozilla's where the host has none.
fn host_roots(roots: &mut RootCertStore) {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = BUNDLES.iter().map(PathBuf::from);
    let bundle = named.into_iter().chain(known).find(|p| p.is_file());
    let found = bundle.map(|path| certificates(&path)).unwrap_or_default();
    let (good, _) = roots.add_parsable_certificates(found);
    if good == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    match CertificateDer::pem_file_iter(path) {
        Ok(found) => found.flatten().collect(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the host's certificates cannot be read");
            Vec::new()
        }
    }
}

/// Verifies as usual, and lets in a server whose own certificate is in the bundle, CA or not: Go does, and webhooks
/// with self-signed certificates rely on it.
#[derive(Debug)]
struct Vouched {
    /// `None`: nobody has to vouch.
    inner: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            certificates::note(leaf, chain, name, false);
            return Ok(ServerCertVerified::assertion());
        };
        let verified = inner.verify_server_cert(leaf, chain, name, ocsp, now);
        certificates::note(leaf, chain, name, verified.is_err());
        let known = self.own.iter().any(|c| c.as_ref() == leaf.as_ref());
        match verified {
            Err(_) if known => {
                in_time(leaf, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

fn in_time(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = |e| Error::InvalidCertificate(e);
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| bad(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(bad(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(bad(CertificateError::Expired));
    }
    Ok(())
}
