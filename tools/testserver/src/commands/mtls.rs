//! `mtlsserver` and `mtlsclient`: who a client is by its SPIFFE certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::{self, Options, split_port};
use crate::flags::Flags;
use crate::http1::{self, Reply, Request};
use crate::{log, tls};

pub fn server(args: &[String]) -> Result<u8> {
    let known = [
        ("listen", ""),
        ("server-creds", ""),
        ("spiffe-trust-bundle", ""),
    ];
    let flags = Flags::parse(args, &known, false)?;
    for (name, _) in known {
        ensure!(!flags.get(name).is_empty(), "--{name} is required");
    }
    log::end_on_signal();
    let creds = Path::new(flags.get("server-creds"));
    let config = tls::server(creds, creds, true)?;
    let bundle = flags.get("spiffe-trust-bundle").to_string();
    tls::certificates(bundle.as_ref())?;
    let (host, port) = split_port(flags.get("listen"), 443)?;
    let listener = match host.as_str() {
        "" => http1::listen(port)?,
        host => std::net::TcpListener::bind((host.parse::<std::net::IpAddr>()?, port))?,
    };
    log::line(&format!("Listening on {}", flags.get("listen")));
    http1::serve(
        listener,
        Some(config),
        Arc::new(move |request| echo(request, bundle.as_ref())),
    );
    Ok(0)
}

fn echo(request: &Request, bundle: &Path) -> Reply {
    if request.path != "/spiffe-echo" {
        return Reply::error(404, "404 page not found");
    }
    if request.method != "GET" {
        return Reply::error(405, "Method Not Allowed");
    }
    if let Err(error) = verify(&request.certificates, bundle) {
        log::line(&format!("a client is refused: {error:#}"));
        return Reply::error(401, "SPIFFE client certificate authentication required");
    }
    match identity(&request.certificates) {
        Some(uri) => Reply::ok(format!("Client Identity: {uri}")),
        None => Reply::error(401, "Malformed SPIFFE certificate"),
    }
}

/// Whether a client's certificate chains to the bundle, which is read anew each time.
fn verify(shown: &[Vec<u8>], bundle: &Path) -> Result<()> {
    let (own, between) = shown.split_first().context("no certificate")?;
    let roots = tls::certificates(bundle)?;
    let anchors = roots
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()?;
    let own = CertificateDer::from(own.as_slice());
    let between: Vec<CertificateDer<'_>> = between.iter().map(|c| c.as_slice().into()).collect();
    EndEntityCert::try_from(&own)?.verify_for_usage(
        tls::algorithms().all,
        &anchors,
        &between,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    Ok(())
}

/// The only URI a certificate is for.
fn identity(shown: &[Vec<u8>]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(shown.first()?).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|n| match n {
        GeneralName::URI(uri) => Some(uri.to_string()),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Some(uri),
        _ => None,
    }
}

pub fn client(args: &[String]) -> Result<u8> {
    let known = [
        ("fetch-url", ""),
        ("server-trust-bundle", ""),
        ("client-cred-bundle", ""),
    ];
    let flags = Flags::parse(args, &known, false)?;
    for (name, _) in known {
        ensure!(!flags.get(name).is_empty(), "--{name} is required");
    }
    log::end_on_signal();
    loop {
        match fetch(&flags) {
            Ok(body) => log::line(&format!("Got response body: {body}")),
            Err(error) => log::line(&format!("Error fetching: {error:#}")),
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

fn fetch(flags: &Flags) -> Result<String> {
    let roots = Path::new(flags.get("server-trust-bundle"));
    let identity = Path::new(flags.get("client-cred-bundle"));
    let options = Options {
        tls: Some(tls::client(Some(roots), Some(identity))?),
        ..Options::default()
    };
    let (status, body) = client::fetch(flags.get("fetch-url"), &options)?;
    let text = String::from_utf8_lossy(&body).into_owned();
    ensure!((200..300).contains(&status), "status {status}: {text}");
    Ok(text)
}
