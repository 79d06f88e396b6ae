//! Tokens of Secrets of type `kubernetes.io/service-account-token`: they never end, and are good while the
//! Secret holds them. Upstream: pkg/serviceaccount/legacy.go.

use serde::{Deserialize, Serialize};

use super::{TokenError, TokenSigner, TokenVerifier};
use crate::error::Error;
use crate::jwt;

/// `iss` of these tokens.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The claims of such a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub sub: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
}

// === TokenSigner ===

impl TokenSigner {
    /// Signs the token of a Secret.
    pub fn sign_legacy(&self, claims: &LegacyClaims) -> Result<String, Error> {
        let mut claims = claims.clone();
        claims.iss = LEGACY_ISSUER.into();
        claims.sub = format!(
            "system:serviceaccount:{}:{}",
            claims.namespace, claims.account
        );
        let value = serde_json::to_value(claims).map_err(|_| Error::SignToken)?;
        self.key.sign(&value)
    }
}

// === TokenVerifier ===

impl TokenVerifier {
    /// The claims of a Secret's token that one of our keys signed. Whether the Secret still holds it is the
    /// caller's to find out.
    pub fn legacy(&self, token: &str) -> Result<LegacyClaims, TokenError> {
        let parsed = jwt::parse(token).ok_or(TokenError::NotMine)?;
        let claims: LegacyClaims =
            serde_json::from_slice(&parsed.payload).map_err(|_| TokenError::NotMine)?;
        if claims.iss != LEGACY_ISSUER {
            return Err(TokenError::NotMine);
        }
        if !self
            .keys
            .iter()
            .any(|k| k.may_have_signed(&parsed) && k.verifies(&parsed))
        {
            return Err(TokenError::Signature);
        }
        claims.check()?;
        Ok(claims)
    }
}

// === LegacyClaims ===

impl LegacyClaims {
    fn check(&self) -> Result<(), TokenError> {
        let wanted = [
            ("sub", &self.sub),
            ("namespace", &self.namespace),
            ("secretName", &self.secret),
            ("serviceAccountName", &self.account),
            ("serviceAccountUID", &self.uid),
        ];
        if let Some((name, _)) = wanted.iter().find(|(_, v)| v.is_empty()) {
            return Err(TokenError::Claims(format!("{name} claim is missing")));
        }
        if self.sub != format!("system:serviceaccount:{}:{}", self.namespace, self.account) {
            return Err(TokenError::Claims("sub claim is invalid".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_token_is_known_again() {
        let key = crate::key::generate().unwrap();
        let signer = TokenSigner::new(&key.serialize_pem(), "https://issuer").unwrap();
        let verifier = TokenVerifier::new(vec![signer.public().clone()], vec![], vec![]);
        let mut claims = LegacyClaims {
            namespace: "n".into(),
            secret: "s".into(),
            account: "a".into(),
            uid: "u".into(),
            ..LegacyClaims::default()
        };
        let token = signer.sign_legacy(&claims).unwrap();
        let found = verifier.legacy(&token).unwrap();
        assert_eq!(found.sub, "system:serviceaccount:n:a");
        claims.uid.clear();
        let token = signer.sign_legacy(&claims).unwrap();
        let error = verifier.legacy(&token).unwrap_err();
        assert_eq!(error.to_string(), "serviceAccountUID claim is missing");
        assert_eq!(verifier.legacy("a.b.c"), Err(TokenError::NotMine));
    }
}
