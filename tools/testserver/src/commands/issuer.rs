//! `test-service-account-issuer-discovery`: checks a token by its issuer's documents. And `inclusterclient`.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature;
use serde_json::Value;

use crate::client::{self, Options};
use crate::flags::Flags;
use crate::{log, tls};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub fn run(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(args, &[("token-path", ""), ("audience", "")], false)?;
    log::end_on_signal();
    let token = std::fs::read_to_string(flags.get("token-path")).context("reading the token")?;
    let token = token.trim();
    log::line("OK: Got token");
    let inside = in_cluster().and_then(|options| verify(token, flags.get("audience"), &options));
    if let Err(error) = inside {
        log::line(&format!("{error:#}"));
        log::line("falling back to the system's roots");
        verify(token, flags.get("audience"), &Options::default())?;
    }
    log::line("OK: Got valid claims from token!");
    Ok(0)
}

/// A client of the API server as pods are.
pub fn in_cluster() -> Result<Options> {
    let token = std::fs::read_to_string(format!("{ACCOUNT}/token"))
        .context("reading the service account's token")?;
    let ca = format!("{ACCOUNT}/ca.crt");
    Ok(Options {
        headers: vec![("Authorization".into(), format!("Bearer {}", token.trim()))],
        tls: Some(tls::client(Some(ca.as_ref()), None)?),
        ..Options::default()
    })
}

fn document(url: &str, options: &Options) -> Result<Value> {
    let (status, body) = client::fetch(url, options).with_context(|| format!("Get {url:?}"))?;
    ensure!(
        status == 200,
        "Get {url:?}: {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(serde_json::from_slice(&body)?)
}

fn part(text: Option<&str>) -> Result<Vec<u8>> {
    Ok(URL_SAFE_NO_PAD.decode(text.context("a token of fewer than three parts")?)?)
}

fn verify(token: &str, audience: &str, options: &Options) -> Result<()> {
    let mut parts = token.split('.');
    let header: Value = serde_json::from_slice(&part(parts.next())?)?;
    let claims: Value = serde_json::from_slice(&part(parts.next())?)?;
    let signed = part(parts.next())?;
    let issuer = claims["iss"].as_str().context("a token without issuer")?;
    log::line(&format!("OK: got issuer {issuer}"));
    let base = issuer.trim_end_matches('/');
    let discovery = document(&format!("{base}/.well-known/openid-configuration"), options)?;
    ensure!(
        discovery["issuer"] == issuer,
        "oidc: issuer did not match: {}",
        discovery["issuer"]
    );
    log::line(
        "OK: Constructed OIDC provider for issuer "
            .to_string()
            .as_str(),
    );
    let keys = document(
        discovery["jwks_uri"].as_str().context("no jwks_uri")?,
        options,
    )?;
    let message = token.rsplit_once('.').map(|(m, _)| m).unwrap_or_default();
    let matching = keys["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|k| header["kid"].is_null() || k["kid"] == header["kid"]);
    let good = matching
        .into_iter()
        .any(|key| check(key, &header, message.as_bytes(), &signed).is_ok());
    ensure!(good, "failed to verify signature: no key matches");
    log::line("OK: Validated signature on JWT");
    let aud = &claims["aud"];
    let listed = aud
        .as_array()
        .is_some_and(|l| l.iter().any(|a| a == audience))
        || aud == audience;
    ensure!(listed, "expected audience {audience:?} got {aud}");
    let now = jiff::Timestamp::now().as_second();
    ensure!(
        claims["exp"].as_i64().is_some_and(|e| e > now),
        "token is expired"
    );
    Ok(())
}

fn check(key: &Value, header: &Value, message: &[u8], signed: &[u8]) -> Result<()> {
    let field = |name: &str| part(key[name].as_str());
    let wrong = |_| anyhow!("the signature is not this key's");
    match header["alg"].as_str() {
        Some("RS256") => {
            let (n, e) = (field("n")?, field("e")?);
            signature::RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signed)
                .map_err(wrong)
        }
        Some("ES256") => {
            let point = [vec![4], field("x")?, field("y")?].concat();
            signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signed)
                .map_err(wrong)
        }
        other => bail!("unexpected algorithm {other:?}"),
    }
}

/// `host:port` of the API server, as pods are told.
pub fn api_server() -> Result<String> {
    let env = |name: &str| std::env::var(name).with_context(|| format!("no {name}"));
    Ok(client::join_port(
        &env("KUBERNETES_SERVICE_HOST")?,
        &env("KUBERNETES_SERVICE_PORT")?,
    ))
}

/// Asks the API server now and then, with whatever token there is.
pub fn in_cluster_client(args: &[String]) -> Result<u8> {
    let flags = Flags::parse(args, &[("poll-interval", "30")], false)?;
    log::end_on_signal();
    let pause = Duration::from_secs(u64::try_from(flags.number("poll-interval")?)?);
    let host = api_server()?;
    loop {
        let options = in_cluster()?;
        let token = options
            .headers
            .first()
            .map(|(_, v)| v.as_bytes())
            .unwrap_or_default();
        let hash = ring::digest::digest(&ring::digest::SHA256, token);
        log::line(&format!(
            "authz_header={}",
            URL_SAFE_NO_PAD.encode(hash.as_ref())
        ));
        log::line("calling /healthz");
        match client::fetch(&format!("https://{host}/healthz"), &options) {
            Ok((status, _)) => log::line(&format!("status {status}")),
            Err(e) => log::line(&format!("status failed: {e:#}")),
        }
        std::thread::sleep(pause);
    }
}
