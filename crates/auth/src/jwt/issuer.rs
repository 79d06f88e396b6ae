//! One issuer: found in the background, again and again until it answers, then asked for its keys.
//! Upstream: oidc.New and go-oidc's NewProvider.

use std::sync::Arc;

use machinery::request::User;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use webhook::{Fetched, Fetcher, Verification};

use super::claims;
use super::distributed::Resolver;
use super::keys::KeySet;
use super::token::{Verifier, untrusted_issuer};
use super::{Context, FETCH, hash};
use crate::config::authentication::{JwtAuthenticator, Mapper};
use crate::limits;

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// An issuer's tokens and what they mean.
pub struct Issuer {
    jwt: JwtAuthenticator,
    mapper: Mapper,
    found: Found,
    /// Finds the claim of groups elsewhere.
    resolver: Option<Resolver>,
}

/// A verifier that comes when its issuer answers.
pub struct Found {
    verifier: watch::Receiver<Option<Arc<Verifier>>>,
    error: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

/// How an issuer is found.
#[derive(Clone)]
pub struct Search {
    pub issuer: String,
    /// Empty: the well-known place.
    pub discovery_url: String,
    pub fetcher: Arc<Fetcher>,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    /// Whether its fetches are counted.
    pub context: Option<Context>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

// === Issuer ===

impl Issuer {
    /// Begins to look for the issuer.
    pub fn begin(jwt: JwtAuthenticator, mapper: Mapper, context: &Context) -> Result<Self, String> {
        let issuer = &jwt.issuer;
        if !issuer.egress_selector_type.is_empty() {
            let kind = &issuer.egress_selector_type;
            return Err(format!(
                "oidc: egress lookup required with egress selector type \"{kind}\""
            ));
        }
        let verification = Verification::of_bundle(issuer.certificate_authority.as_bytes());
        let search = Search {
            issuer: issuer.url.clone(),
            discovery_url: issuer.discovery_url.clone(),
            fetcher: Arc::new(Fetcher::new(&verification)?),
            audiences: issuer.audiences.clone(),
            algorithms: context.algorithms.clone(),
            context: Some(context.clone()),
        };
        let claim = &jwt.claim_mappings.groups.claim;
        let resolver = (!claim.is_empty()).then(|| Resolver::new(claim, &search));
        Ok(Self {
            found: search.begin(),
            jwt,
            mapper,
            resolver,
        })
    }

    /// What `iss` must be.
    pub fn url(&self) -> &str {
        &self.jwt.issuer.url
    }

    /// Waits until the issuer has answered.
    pub async fn ready(&self) {
        let mut verifier = self.found.verifier.clone();
        // The sender lives as long as the task that we hold.
        let _there = verifier.wait_for(Option::is_some).await;
    }

    /// Why it is not ready.
    pub fn problem(&self) -> Option<String> {
        self.found.get().err().map(|why| {
            let url = self.url();
            format!("oidc: authenticator for issuer \"{url}\" is not healthy: {why}")
        })
    }

    /// The user of a token; `Ok(None)` for those of other issuers.
    pub async fn check(&self, token: &str, now: i64) -> Result<Option<User>, String> {
        if untrusted_issuer(token).ok().as_deref() != Some(self.url()) {
            return Ok(None);
        }
        let verifier = self.found.get();
        let verifier = verifier.map_err(|_| "oidc: authenticator not initialized")?;
        let verified = verifier.verify(token, now).await;
        let mut claims = verified.map_err(|e| format!("oidc: verify token: {e}"))?;
        if let Some(resolver) = &self.resolver {
            let expanded = resolver.expand(&mut claims, now).await;
            expanded.map_err(|e| format!("oidc: could not expand distributed claims: {e}"))?;
        }
        claims::user(&self.jwt, &self.mapper, &claims).map(Some)
    }
}

// === Found ===

impl Found {
    /// The verifier, or why there is none yet.
    pub fn get(&self) -> Result<Arc<Verifier>, String> {
        match &*self.verifier.borrow() {
            Some(verifier) => Ok(verifier.clone()),
            None => Err(self.error.lock().clone()),
        }
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === Search ===

impl Search {
    /// Looks for the issuer until it is found.
    pub fn begin(&self) -> Found {
        let (set, verifier) = watch::channel(None);
        let initial = format!(
            "oidc: authenticator for issuer \"{}\" is not initialized",
            self.issuer
        );
        let error = Arc::new(Mutex::new(initial));
        let (search, shared) = (self.clone(), error.clone());
        let task = tokio::spawn(async move {
            loop {
                match search.discover().await {
                    Ok(found) => {
                        set.send_replace(Some(Arc::new(found)));
                        // The channel must outlive those who wait.
                        return set.closed().await;
                    }
                    Err(why) => {
                        tracing::error!(issuer = search.issuer, why, "the issuer is not found");
                        *shared.lock() = why;
                    }
                }
                tokio::time::sleep(limits::JWT_DISCOVERY_AGAIN).await;
            }
        });
        Found {
            verifier,
            error,
            task,
        }
    }

    async fn discover(&self) -> Result<Verifier, String> {
        let known = match self.discovery_url.as_str() {
            "" => {
                let issuer = &self.issuer;
                format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer))
            }
            url => url.to_string(),
        };
        let (time, bytes) = FETCH;
        let answer = self.fetcher.get(&known, None, time, bytes).await?;
        if answer.status != 200 {
            return Err(shown(&answer));
        }
        let document: Document = serde_json::from_slice(&answer.body)
            .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
        if document.issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected \"{}\" got \"{}\"",
                self.issuer, document.issuer
            ));
        }
        if document.jwks_uri.is_empty() {
            return Err("provider did not return JWKS URL".into());
        }
        let counted = self.context.as_ref().map(|c| {
            let server = hash(&c.server_id);
            (c.metrics.clone(), hash(&self.issuer), server)
        });
        Ok(Verifier {
            issuer: self.issuer.clone(),
            keys: KeySet::new(document.jwks_uri, self.fetcher.clone(), counted),
            audiences: self.audiences.clone(),
            algorithms: self.algorithms.clone(),
        })
    }
}

/// An answer that is none, for an error: its code and the beginning of its text.
pub fn shown(answer: &Fetched) -> String {
    let first = &answer.body[..answer.body.len().min(limits::JWT_ERROR_BYTES)];
    format!("{}: {}", answer.status, String::from_utf8_lossy(first))
}
