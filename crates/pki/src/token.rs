//! Service account tokens: the claims, signing and checking of signature, issuer, time and audience.
//! Whether the bound objects still exist is `auth::service_account`'s part.
//! Upstream: pkg/serviceaccount/claims.go, jwt.go.

mod legacy;

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::jwt::{self, PublicJwk, SigningKey};
use crate::limits;

pub use legacy::{LEGACY_ISSUER, LegacyClaims};

/// The claims of a service account token; times in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub sub: String,
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "seconds"
    )]
    pub exp: Option<i64>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "seconds"
    )]
    pub iat: Option<i64>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "seconds"
    )]
    pub nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(default, rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
}

/// The private claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kubernetes {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default)]
    pub serviceaccount: ObjectRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "seconds"
    )]
    pub warnafter: Option<i64>,
}

/// Name and UID of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectRef {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// Why a token is refused. Texts equal upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this issuer: another authenticator may know it.
    #[error("not a service account token")]
    NotMine,
    #[error("invalid bearer token")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("service account token is issued in the future")]
    Future,
    #[error("{0}")]
    Claims(String),
    #[error("token audiences {token:?} is invalid for the target audiences {target:?}")]
    Audience {
        token: Vec<String>,
        target: Vec<String>,
    },
}

/// Makes tokens.
pub struct TokenSigner {
    key: SigningKey,
    issuer: String,
}

/// Checks tokens.
pub struct TokenVerifier {
    keys: Vec<PublicJwk>,
    issuers: Vec<String>,
    audiences: Vec<String>,
}

/// Seconds by which clocks may disagree (go-jose's DefaultLeeway).
pub const LEEWAY_SECONDS: i64 = 60;

// === TokenSigner ===

impl TokenSigner {
    /// A signer with the key in `pem`; `issuer` becomes the claim `iss`.
    pub fn new(pem: &str, issuer: &str) -> Result<Self, Error> {
        Ok(Self {
            key: SigningKey::parse(pem)?,
            issuer: issuer.into(),
        })
    }

    /// Signs the claims with this signer's issuer.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let mut claims = claims.clone();
        claims.iss = self.issuer.clone();
        let value = serde_json::to_value(claims).map_err(|_| Error::SignToken)?;
        self.key.sign(&value)
    }

    /// The public key.
    pub fn public(&self) -> &PublicJwk {
        self.key.public()
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

// === TokenVerifier ===

impl TokenVerifier {
    /// A verifier that trusts `keys`, takes tokens of `issuers`, and accepts `audiences` where
    /// the caller asks for none.
    pub fn new(keys: Vec<PublicJwk>, issuers: Vec<String>, audiences: Vec<String>) -> Self {
        Self {
            keys,
            issuers,
            audiences,
        }
    }

    /// The server's own audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The keys, for the JWKS document.
    pub fn keys(&self) -> &[PublicJwk] {
        &self.keys
    }

    /// Checks everything but the bound objects. Gives the claims and the audiences that both the token
    /// and the caller (`wanted`, empty: the server's own) name. `now` in seconds since 1970.
    pub fn verify(
        &self,
        token: &str,
        wanted: &[String],
        now: i64,
    ) -> Result<(Claims, Vec<String>), TokenError> {
        let claims = self.authentic(token)?;
        let common = self.accept(&claims, wanted, now)?;
        Ok((claims, common))
    }

    /// The claims of a token that one of our keys signed for one of our issuers. The answer for a given
    /// token never changes, so callers may remember it.
    pub fn authentic(&self, token: &str) -> Result<Claims, TokenError> {
        let parsed = jwt::parse(token).ok_or(TokenError::NotMine)?;
        let claims: Claims =
            serde_json::from_slice(&parsed.payload).map_err(|_| TokenError::NotMine)?;
        if !self.issuers.contains(&claims.iss) {
            return Err(TokenError::NotMine);
        }
        let signed = |k: &PublicJwk| k.may_have_signed(&parsed) && k.verifies(&parsed);
        if !self.keys.iter().any(signed) {
            return Err(TokenError::Signature);
        }
        Ok(claims)
    }

    /// Checks audience, times and subject of authentic claims; gives the common audiences.
    pub fn accept(
        &self,
        claims: &Claims,
        wanted: &[String],
        now: i64,
    ) -> Result<Vec<String>, TokenError> {
        if claims.aud.len() > limits::TOKEN_AUDIENCES_MAX {
            return Err(TokenError::Claims("too many audiences".into()));
        }
        let target = if wanted.is_empty() {
            &self.audiences
        } else {
            wanted
        };
        let common = intersection(target, &claims.aud);
        if common.is_empty() {
            return Err(TokenError::Audience {
                token: claims.aud.clone(),
                target: target.to_vec(),
            });
        }
        check_times(claims, now)?;
        check_subject(claims)?;
        Ok(common)
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), TokenError> {
    let leeway = LEEWAY_SECONDS;
    if claims.nbf.is_some_and(|t| now.saturating_add(leeway) < t) {
        return Err(TokenError::NotYet);
    }
    if claims.exp.is_none_or(|t| now.saturating_sub(leeway) > t) {
        // Upstream's bound tokens always end; one without an end was not made by us.
        return Err(TokenError::Expired);
    }
    if claims.iat.is_some_and(|t| now.saturating_add(leeway) < t) {
        return Err(TokenError::Future);
    }
    Ok(())
}

fn check_subject(claims: &Claims) -> Result<(), TokenError> {
    let k = &claims.kubernetes;
    let expected = format!(
        "system:serviceaccount:{}:{}",
        k.namespace, k.serviceaccount.name
    );
    if k.namespace.is_empty() || k.serviceaccount.name.is_empty() {
        return Err(TokenError::Claims(
            "namespace or name missing in token".into(),
        ));
    }
    if claims.sub != expected {
        return Err(TokenError::Claims(
            "sub claim does not match the service account".into(),
        ));
    }
    Ok(())
}

fn intersection(a: &[String], b: &[String]) -> Vec<String> {
    let b: BTreeSet<&String> = b.iter().collect();
    a.iter().filter(|x| b.contains(x)).cloned().collect()
}

fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(d)? {
        Either::One(s) => vec![s],
        Either::Many(v) => v,
    })
}

/// NumericDate: whole or broken seconds.
fn seconds<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    let value = Option::<Value>::deserialize(d)?;
    match value {
        None => Ok(None),
        Some(v) => v
            .as_i64()
            .or_else(|| v.as_f64().filter(|f| f.is_finite()).map(|f| f as i64))
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom("expected a number of seconds")),
    }
}

#[cfg(test)]
mod tests;
