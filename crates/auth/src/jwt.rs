//! Users by tokens of other issuers: OIDC. Upstream: plugin/pkg/authenticator/token/oidc, pkg/kubeapiserver/authenticator.
//! Discovery and keys are fetched in the background of requests, once at a time, with a deadline and a bound; an issuer
//! that does not answer stops nobody but the holders of its own tokens. Proxies and egress selectors are left out.

pub mod expressions;

mod claims;
mod distributed;
mod issuer;
mod keys;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use machinery::request::Authenticated;
use machinery::series::{Family, Kind, Registry};
use parking_lot::RwLock;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::authentication::{AuthenticationConfiguration, Mapper, validate};
use crate::limits;
use crate::token_cache::{Answer, TokenAuthenticator};
use issuer::Issuer;

static LATENCY: Family = Family {
    name: "apiserver_authentication_jwt_authenticator_latency_seconds",
    kind: Kind::Histogram(&[
        0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ]),
    help: "[ALPHA] Seconds that an issuer's tokens took to be checked, by the result.",
    labels: &["result", "jwt_issuer_hash"],
};
static FETCHED: Family = Family {
    name: "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds",
    kind: Kind::Gauge,
    help: "[ALPHA] When an issuer's keys were last fetched, by the result.",
    labels: &["result", "jwt_issuer_hash", "apiserver_id_hash"],
};
static KEY_SET: Family = Family {
    name: "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info",
    kind: Kind::Gauge,
    help: "[ALPHA] 1, with the hash of the keys that were fetched last.",
    labels: &["jwt_issuer_hash", "apiserver_id_hash", "hash"],
};

/// What all issuers share.
#[derive(Clone)]
pub struct Context {
    /// Names of signature algorithms that are accepted.
    pub algorithms: Vec<String>,
    /// Issuers that may not be configured: the server's own.
    pub disallowed: Vec<String>,
    /// Tells servers apart in metrics.
    pub server_id: String,
    pub metrics: Arc<Registry>,
}

/// Knows users by tokens of the issuers of an AuthenticationConfiguration, which may be replaced.
pub struct JwtAuthenticators {
    context: Context,
    issuers: RwLock<Arc<Vec<Issuer>>>,
}

/// Whether a PEM bundle holds certificates. The error is client-go's.
pub(crate) fn check_authority(pem: &[u8]) -> Result<(), String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect();
    if all.is_empty() || all.iter().any(Result::is_err) {
        return Err("data does not contain any valid RSA or ECDSA certificates".into());
    }
    webhook::client_config(&webhook::Verification::Bundle(pem.to_vec()), None).map(drop)
}

/// Upstream's label of a text that may be secret or long.
pub(crate) fn hash(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("sha256:{}", pki::sha256(text, 32)),
    }
}

// === JwtAuthenticators ===

impl JwtAuthenticators {
    /// The issuers of a configuration; each begins to look for its keys. Must be called within a tokio runtime.
    pub fn new(config: &AuthenticationConfiguration, context: Context) -> Result<Self, String> {
        let issuers = RwLock::new(Arc::new(made(config, &context)?));
        Ok(Self { context, issuers })
    }

    /// Takes over another configuration once all of its issuers have answered; within a limit, or not at all.
    pub async fn replace(&self, config: &AuthenticationConfiguration) -> Result<(), String> {
        let new = made(config, &self.context)?;
        let waited = async {
            for issuer in &new {
                issuer.ready().await;
            }
        };
        let waited = tokio::time::timeout(limits::JWT_READY_WAIT, waited).await;
        if waited.is_err() {
            let problems = new.iter().filter_map(Issuer::problem).collect();
            return Err(crate::rbac::aggregate("", problems));
        }
        let kept: Vec<String> = new.iter().map(|i| i.url().to_string()).collect();
        let old = std::mem::replace(&mut *self.issuers.write(), Arc::new(new));
        // Whoever is within the old issuers finishes with them; nothing new begins.
        for gone in old.iter().filter(|i| !kept.iter().any(|k| k == i.url())) {
            let id = hash(gone.url());
            for family in [&FETCHED, &KEY_SET] {
                self.context.metrics.forget(family, "jwt_issuer_hash", &id);
            }
        }
        Ok(())
    }

    /// The user of a token. `Ok(None)`: of none of our issuers.
    pub async fn authenticate(&self, token: &str) -> Answer {
        let issuers = self.issuers.read().clone();
        for issuer in issuers.iter() {
            let begun = Instant::now();
            let done = issuer.check(token, pki::now()).await;
            let result = match &done {
                Ok(None) => continue,
                Ok(Some(_)) => "success",
                Err(_) => "failure",
            };
            let id = hash(issuer.url());
            let metrics = &self.context.metrics;
            metrics.observe(&LATENCY, &[result, &id], begun.elapsed());
            return done.map(|user| {
                user.map(|user| Authenticated {
                    user,
                    audiences: Vec::new(),
                })
            });
        }
        Ok(None)
    }
}

fn made(config: &AuthenticationConfiguration, context: &Context) -> Result<Vec<Issuer>, String> {
    let (mappers, causes) = validate(config, &context.disallowed);
    crate::config::aggregate(&causes)?;
    let both = config.jwt.iter().zip(mappers);
    both.map(|(jwt, mapper): (_, Mapper)| Issuer::begin(jwt.clone(), mapper, context))
        .collect()
}

#[async_trait]
impl TokenAuthenticator for JwtAuthenticators {
    fn name(&self) -> &'static str {
        "jwt"
    }

    /// JWTs of other issuers say nothing of our audiences: they are good for all of them.
    async fn check(&self, token: &str, _audiences: &[String]) -> Answer {
        self.authenticate(token).await
    }
}

/// How long a fetch of an issuer's document may take, and its bytes.
const FETCH: (Duration, usize) = (limits::JWT_FETCH_TIME, limits::JWT_DOCUMENT_BYTES_MAX);

#[cfg(test)]
mod tests;
