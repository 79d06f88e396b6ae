//! How a database is reached: names looked up by hickory (getaddrinfo would load the host's NSS into a
//! static binary), and TLS by libpq's modes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use stdx::tls::AnyCertificate;

use super::dsn::{Tls, TlsMode};
use crate::error::Error;

/// The addresses of a host.
pub async fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let failed = |e: &dyn std::fmt::Display| format!("look up {host}: {e}");
    let mut builder = TokioResolver::builder_tokio().map_err(|e| failed(&e))?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|e| failed(&e))?;
    let found = resolver.lookup_ip(host).await.map_err(|e| failed(&e))?;
    Ok(found.iter().collect())
}

/// A file of the configuration.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| bad(&format!("{}: {e}", path.display())))
}

fn bad(why: &str) -> Error {
    Error::Backend {
        operation: "read the database's certificates",
        message: why.into(),
    }
}

/// The client's side of TLS; nothing where it is disabled.
pub fn tls(tls: &Tls) -> Result<Option<Arc<ClientConfig>>, Error> {
    if tls.mode == TlsMode::Disable {
        return Ok(None);
    }
    let told = |e: &dyn std::fmt::Display| bad(&e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for der in CertificateDer::pem_slice_iter(&read(path)?) {
                roots
                    .add(der.map_err(|e| told(&e))?)
                    .map_err(|e| told(&e))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let verifier: Arc<dyn ServerCertVerifier> = match tls.mode {
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let web = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
            let web = web.build().map_err(|e| told(&e))?;
            match tls.mode {
                TlsMode::VerifyFull => web,
                _ => Arc::new(AnyHost(web)),
            }
        }
        // Encryption without knowing by whom: what `sslmode=require` and `tls=skip-verify` ask for.
        _ => Arc::new(AnyCertificate(provider.clone())),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| told(&e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| told(&e))?;
            builder
                .with_client_auth_cert(chain.map_err(|e| told(&e))?, key)
                .map_err(|e| told(&e))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(Arc::new(config)))
}

/// A certificate of a known authority, whatever host it is for: `sslmode=verify-ca`.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last.
        match self
            .0
            .verify_server_cert(end, intermediates, name, ocsp, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            done => done,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
