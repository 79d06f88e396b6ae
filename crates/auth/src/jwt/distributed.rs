//! A claim that lies elsewhere: `_claim_names` and `_claim_sources` (OpenID Connect Core 1.0, 5.6.2).
//! Upstream: oidc.go, claimResolver. Only the claim of groups is looked for, as there.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value as Json;

use super::FETCH;
use super::claims::Claims;
use super::issuer::{Found, Search};
use super::token::{Verifier, untrusted_issuer};
use crate::limits;

/// Gets one claim from where a token says it is.
pub struct Resolver {
    claim: String,
    search: Search,
    /// By issuer; each is looked for when one of its tokens first comes.
    found: Mutex<HashMap<String, Found>>,
}

// === Resolver ===

impl Resolver {
    /// A resolver of a claim, for tokens with the same audiences and algorithms as those that name it.
    pub fn new(claim: &str, search: &Search) -> Self {
        Self {
            claim: claim.to_string(),
            search: Search {
                discovery_url: String::new(),
                context: None,
                ..search.clone()
            },
            found: Mutex::default(),
        }
    }

    /// Puts the claim in if it is elsewhere.
    pub async fn expand(&self, claims: &mut Claims, now: i64) -> Result<(), String> {
        if claims.contains_key(&self.claim) {
            return Ok(());
        }
        let Some(names) = claims.get("_claim_names") else {
            return Ok(());
        };
        let names = names
            .as_object()
            .ok_or("oidc: error parsing distributed claim names: no object of strings")?;
        let sources = claims.get("_claim_sources");
        let sources = sources.ok_or("oidc: no claim sources")?.as_object();
        let sources = sources.ok_or("oidc: could not parse claim sources: no object")?;
        let Some(source) = names.get(&self.claim).and_then(Json::as_str) else {
            return Ok(());
        };
        let place = sources.get(source).ok_or_else(|| {
            format!("id token _claim_names contained a source {source} missing in _claims_sources")
        })?;
        let text = |name: &str| place.get(name).and_then(Json::as_str).unwrap_or_default();
        let (endpoint, access) = (
            text("endpoint").to_string(),
            text("access_token").to_string(),
        );
        if endpoint.is_empty() {
            // An aggregated claim, which is not supported.
            return Ok(());
        }
        let value = self.resolve(&endpoint, &access, now).await?;
        claims.insert(self.claim.clone(), value);
        Ok(())
    }

    async fn resolve(&self, endpoint: &str, access: &str, now: i64) -> Result<Json, String> {
        let claim = &self.claim;
        let (time, bytes) = FETCH;
        let bearer = Some(access).filter(|a| !a.is_empty());
        let got = self.search.fetcher.get(endpoint, bearer, time, bytes).await;
        let getting = |e: String| format!("while getting distributed claim \"{claim}\": {e}");
        let answer = got.map_err(getting)?;
        if !(200..=226).contains(&answer.status.as_u16()) {
            let status = answer.status;
            let why = format!("error while getting distributed claim JWT: {status}");
            return Err(getting(why));
        }
        let jwt = String::from_utf8_lossy(&answer.body);
        let jwt = jwt.trim();
        let issuer = untrusted_issuer(jwt).map_err(|e| {
            format!(
                "getting untrusted issuer from endpoint {endpoint} failed for claim \"{claim}\": {e}"
            )
        })?;
        let verifier = self.verifier(&issuer);
        let verifier =
            verifier.map_err(|e| format!("verifying untrusted issuer {issuer} failed: {e}"))?;
        let verified = verifier.verify(jwt, now).await;
        let mut found = verified.map_err(|e| format!("verify distributed claim token: {e}"))?;
        found.remove(claim).ok_or_else(|| {
            format!("jwt returned by distributed claim endpoint \"{endpoint}\" did not contain claim: {claim}")
        })
    }

    fn verifier(&self, issuer: &str) -> Result<Arc<Verifier>, String> {
        let mut found = self.found.lock();
        if !found.contains_key(issuer) && found.len() >= limits::JWT_CLAIM_ISSUERS_MAX {
            return Err("too many issuers of distributed claims".into());
        }
        let one = found.entry(issuer.to_string()).or_insert_with(|| {
            let search = Search {
                issuer: issuer.to_string(),
                ..self.search.clone()
            };
            search.begin()
        });
        one.get()
            .map_err(|_| format!("verifier not initialized for issuer: \"{issuer}\""))
    }
}
