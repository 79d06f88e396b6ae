//! Connections to registries: names by hickory (getaddrinfo would load the host's NSS into a static binary),
//! TLS by rustls with the host's certificates.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stdx::tls::AnyCertificate;

use super::hosts::Tls;
use crate::error::Error;
use crate::limits;

/// An HTTP client with connections of its own.
pub type HttpClient = Client<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>;

/// Where Linux distributions keep the certificates they trust; Go's list.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Looks up names.
#[derive(Clone)]
pub struct Names(Arc<TokioResolver>);

/// A client for a host with such TLS settings.
pub fn client(names: &Names, tls: &Tls) -> Result<HttpClient, Error> {
    let mut http = HttpConnector::new_with_resolver(names.clone());
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(limits::CONNECT_SECONDS)));
    http.set_nodelay(true);
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config(tls)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(15))
        .build(https))
}

fn config(tls: &Tls) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |e: rustls::Error| Error::malformed("TLS settings", e);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = if tls.skip_verify {
        // The user said so (`skip_verify`), or the registry is on this machine.
        let verifier = Arc::new(AnyCertificate(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    // One certificate is shown, as there is no way to know which the host wants.
    let Some((certificate, key)) = tls.client.first() else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key_path = key.as_ref().unwrap_or(certificate);
    let key = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|e| Error::malformed(key_path.display().to_string(), e))?;
    builder.with_client_auth_cert(chain, key).map_err(wrong)
}

/// What is trusted: the host's bundle, or Mozilla's where the host has none, and the registry's own authorities.
fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named
        .into_iter()
        .chain(BUNDLES.iter().map(PathBuf::from))
        .find(|p| p.is_file());
    match bundle {
        Some(path) => {
            let (_, ignored) = roots.add_parsable_certificates(certificates(&path)?);
            if ignored > 0 {
                tracing::debug!(path = %path.display(), ignored, "certificates that cannot be read");
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    for path in &tls.ca {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|e| Error::malformed(path.display().to_string(), e))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| Error::malformed(path.display().to_string(), e))
}

/// The innermost cause of a failed request, in Go's words where they are known.
pub fn cause(error: &(dyn std::error::Error + 'static), connect: bool) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = match inner.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connect: connection refused".to_string()
        }
        Some(io) if io.kind() == std::io::ErrorKind::TimedOut => "i/o timeout".to_string(),
        _ => inner.to_string(),
    };
    if connect && !text.starts_with("tls:") {
        format!("dial tcp: {text}")
    } else {
        text
    }
}

// === Names ===

impl Names {
    /// Reads the host's resolv.conf and hosts.
    pub fn of_host() -> Result<Self, Error> {
        let failed = |e: &dyn ToString| Error::malformed("/etc/resolv.conf", e.to_string());
        let mut builder = TokioResolver::builder_tokio().map_err(|e| failed(&e))?;
        builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self(Arc::new(builder.build().map_err(|e| failed(&e))?)))
    }
}

impl tower::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            if host == "localhost" {
                let loopback = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
                let list: Vec<SocketAddr> =
                    loopback.map(|ip: std::net::IpAddr| (ip, 0).into()).into();
                return Ok(list.into_iter());
            }
            match resolver.lookup_ip(host).await {
                Ok(found) => {
                    let list: Vec<SocketAddr> = found.iter().map(|ip| (ip, 0).into()).collect();
                    Ok(list.into_iter())
                }
                Err(e) if e.is_nx_domain() || e.is_no_records_found() => Err(
                    std::io::Error::other(format!("lookup {host}: no such host")),
                ),
                Err(e) => Err(std::io::Error::other(format!("lookup {host}: {e}"))),
            }
        })
    }
}
