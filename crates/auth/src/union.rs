//! Several authenticators asked in turn, and several authorizers.
//! Upstream: k8s.io/apiserver authentication/request/union, authorization/union.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{
    Attributes, Authenticated, Authenticator, Authorizer, Credentials, Decision, User,
};
use serde_json::Value;

/// Asks in order; the first that knows the user wins. Adds `system:authenticated`.
pub struct Authenticators(pub Vec<Arc<dyn Authenticator>>);

/// Asks in order; the first that allows or denies wins. Reasons of the others are joined.
pub struct Authorizers(pub Vec<Arc<dyn Authorizer>>);

// === Authenticators ===

#[async_trait]
impl Authenticator for Authenticators {
    fn name(&self) -> &'static str {
        "union"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let mut errors: Vec<String> = Vec::new();
        for one in &self.0 {
            match one.authenticate(c).await {
                Ok(Some(mut found)) => {
                    add_group(&mut found.user);
                    return Ok(Some(found));
                }
                Ok(None) => {}
                Err(e) => {
                    tracing::debug!(authenticator = one.name(), error = %e, "credentials refused");
                    errors.push(e.message);
                }
            }
        }
        if c.bearer.is_some() {
            // Upstream: a token that nobody took is an error of its own.
            errors.insert(0, "invalid bearer token".into());
        }
        errors.dedup();
        match errors.as_slice() {
            [] => Ok(None),
            [one] => Err(ApiError::new(401, "Unauthorized", one.clone())),
            many => Err(ApiError::new(
                401,
                "Unauthorized",
                format!("[{}]", many.join(", ")),
            )),
        }
    }
}

fn add_group(user: &mut User) {
    if user.name == "system:anonymous"
        || user.in_group(crate::AUTHENTICATED)
        || user.in_group(crate::UNAUTHENTICATED)
    {
        return;
    }
    user.groups.push(crate::AUTHENTICATED.into());
}

// === Authorizers ===

#[async_trait]
impl Authorizer for Authorizers {
    fn name(&self) -> &'static str {
        "union"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        let mut reasons = String::new();
        for one in &self.0 {
            match one.authorize(a).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => {
                    if !reasons.is_empty() {
                        reasons.push('\n');
                    }
                    reasons.push_str(one.name());
                    reasons.push_str(": ");
                    reasons.push_str(&reason);
                }
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons)
    }

    async fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        let (mut resource, mut other, mut incomplete) = (Vec::new(), Vec::new(), false);
        for one in &self.0 {
            let (r, o, i) = one.rules(user, namespace).await;
            resource.extend(r);
            other.extend(o);
            incomplete |= i;
        }
        (resource, other, incomplete)
    }
}
