//! Whether a token is its issuer's and for us. Upstream: go-oidc's IDTokenVerifier; texts are its.

use pki::jwt::Parsed;
use serde_json::Value as Json;

use super::claims::{Claims, one_or_many};
use super::keys::KeySet;
use crate::limits;
use crate::rbac::rule::go_list;

const GOOGLE: &str = "https://accounts.google.com";
const GOOGLE_BARE: &str = "accounts.google.com";

/// Checks the tokens of one issuer.
pub struct Verifier {
    pub issuer: String,
    pub keys: KeySet,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
}

/// The issuer that a token names, which may be a lie.
pub fn untrusted_issuer(token: &str) -> Result<String, String> {
    if token.trim_start().starts_with('{') {
        return Err("token is not compact JWT".into());
    }
    let parsed = pki::jwt::parse(token).ok_or("malformed token")?;
    let claims: Json = serde_json::from_slice(&parsed.payload)
        .map_err(|e| format!("while unmarshaling token: {e}"))?;
    match claims.get("iss").and_then(Json::as_str) {
        Some(GOOGLE_BARE) => Ok(GOOGLE.into()),
        Some(issuer) => Ok(issuer.into()),
        None => Ok(String::new()),
    }
}

// === Verifier ===

impl Verifier {
    /// The claims of a token of this issuer that is good at `now`, in seconds since 1970.
    pub async fn verify(&self, token: &str, now: i64) -> Result<Claims, String> {
        if token.bytes().filter(|b| *b == b'.').count() > 2 {
            return Err("oidc: malformed jwt".into());
        }
        let parsed = pki::jwt::parse(token).ok_or("oidc: malformed jwt: no compact JWS")?;
        if !self.algorithms.iter().any(|a| a == parsed.alg()) {
            return Err(format!(
                "oidc: id token signed with unsupported algorithm, expected {} got \"{}\"",
                go_list(&self.algorithms),
                parsed.alg()
            ));
        }
        self.signed(&parsed).await?;
        let claims: Claims = serde_json::from_slice(&parsed.payload)
            .map_err(|e| format!("oidc: failed to unmarshal claims: {e}"))?;
        self.accept(&claims, now)?;
        Ok(claims)
    }

    async fn signed(&self, parsed: &Parsed<'_>) -> Result<(), String> {
        let done = self.keys.verify(parsed).await;
        done.map_err(|e| format!("failed to verify signature: {e}"))
    }

    /// Issuer, audience and times.
    pub(super) fn accept(&self, claims: &Claims, now: i64) -> Result<(), String> {
        let unmarshal = |e: String| format!("oidc: failed to unmarshal claims: {e}");
        let issuer = match claims.get("iss") {
            None | Some(Json::Null) => "",
            Some(Json::String(s)) => s.as_str(),
            Some(_) => return Err(unmarshal("iss is no string".into())),
        };
        let audience = claims.get("aud").map(one_or_many).transpose();
        let audience = audience.map_err(unmarshal)?.unwrap_or_default();
        let expiry = seconds(claims, "exp").map_err(unmarshal)?;
        let not_before = seconds(claims, "nbf").map_err(unmarshal)?;
        seconds(claims, "iat").map_err(unmarshal)?;
        sources(claims)?;
        if issuer != self.issuer && !(self.issuer == GOOGLE && issuer == GOOGLE_BARE) {
            return Err(format!(
                "oidc: id token issued by a different provider, expected \"{}\" got \"{issuer}\"",
                self.issuer
            ));
        }
        self.for_us(&audience)?;
        let expired = |shown: String| format!("oidc: token is expired (Token Expiry: {shown})");
        match expiry {
            None => return Err(expired("0001-01-01 00:00:00 +0000 UTC".into())),
            Some(end) if end < now => return Err(expired(go_time(end))),
            Some(_) => {}
        }
        match not_before {
            Some(begin) if now.saturating_add(limits::JWT_NOT_BEFORE_LEEWAY) < begin => {
                Err(format!(
                    "oidc: current time {} before the nbf (not before) time: {}",
                    go_time(now),
                    go_time(begin)
                ))
            }
            _ => Ok(()),
        }
    }

    fn for_us(&self, audience: &[String]) -> Result<(), String> {
        if self.audiences.iter().any(|a| audience.contains(a)) {
            return Ok(());
        }
        let got = go_list(audience);
        Err(match self.audiences.as_slice() {
            [one] => format!("oidc: expected audience \"{one}\" got {got}"),
            many => {
                let mut sorted = many.to_vec();
                sorted.sort();
                format!("oidc: expected audience in {} got {got}", go_list(&sorted))
            }
        })
    }
}

/// A NumericDate, whole or broken.
fn seconds(claims: &Claims, name: &str) -> Result<Option<i64>, String> {
    match claims.get(name) {
        None | Some(Json::Null) => Ok(None),
        // Go's json.Number takes numbers in quotes as well.
        Some(Json::String(s)) => {
            let number = s.parse::<f64>().ok().filter(|n| n.is_finite());
            let whole = s.parse::<i64>().ok();
            let found = whole.or_else(|| number.map(|n| n as i64));
            found
                .map(Some)
                .ok_or_else(|| format!("{name} is no number"))
        }
        Some(Json::Number(n)) => {
            let broken = n.as_f64().map(|f| f as i64);
            Ok(n.as_i64().or(broken))
        }
        Some(_) => Err(format!("{name} is no number")),
    }
}

/// Every claim that is said to be elsewhere has a place where it is.
fn sources(claims: &Claims) -> Result<(), String> {
    let Some(names) = claims.get("_claim_names").and_then(Json::as_object) else {
        return Ok(());
    };
    let known = claims.get("_claim_sources").and_then(Json::as_object);
    for source in names.values() {
        match source.as_str().filter(|s| !s.is_empty()) {
            None => return Err("oidc: failed to obtain source from claim name".into()),
            Some(s) if known.is_some_and(|k| k.contains_key(s)) => {}
            Some(_) => return Err("oidc: source does not exist".into()),
        }
    }
    Ok(())
}

/// A time as Go prints it.
fn go_time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(t) => t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => format!("{seconds} s"),
    }
}
