//! Several authenticators asked in turn, and several authorizers.
//! Upstream: k8s.io/apiserver authentication/request/union, authorization/union.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{
    Attributes, Authenticated, Authenticator, Authorizer, Credentials, Decision, User,
};
use machinery::series::{Family, Kind, Registry, Series};
use serde_json::Value;

/// Asks in order; the first that knows the user wins. Adds `system:authenticated`.
pub struct Authenticators(pub Vec<Arc<dyn Authenticator>>);

/// Asks in order; the first that allows or denies wins. Reasons of the others are joined.
pub struct Authorizers(pub Vec<Link>);

/// An authorizer within a union.
pub struct Link {
    name: String,
    authorizer: Arc<dyn Authorizer>,
    /// What it allowed, and what it denied.
    counted: Option<(Arc<Series>, Arc<Series>)>,
}

static DECISIONS: Family = Family {
    name: "apiserver_authorization_decisions_total",
    kind: Kind::Counter,
    help: "[ALPHA] Decisions of authorizers that ended the search, by type, name and decision.",
    labels: &["type", "name", "decision"],
};

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

impl Link {
    /// An authorizer of upstream's type `kind` under the name that refusals and metrics show.
    pub fn new(
        kind: &str,
        name: &str,
        authorizer: Arc<dyn Authorizer>,
        metrics: &Registry,
    ) -> Self {
        let counted = |decision| metrics.series(&DECISIONS, &[kind, name, decision]);
        Self {
            name: name.to_string(),
            authorizer,
            counted: Some((counted("allowed"), counted("denied"))),
        }
    }

    /// One whose decisions are not counted.
    pub fn uncounted(authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            name: authorizer.name().to_string(),
            authorizer,
            counted: None,
        }
    }
}

#[async_trait]
impl Authorizer for Authorizers {
    fn name(&self) -> &'static str {
        "union"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        let mut reasons = String::new();
        let mut errors: Vec<String> = Vec::new();
        let mut note = |link: &Link, reason: &str| {
            if reason.is_empty() {
                return;
            }
            if !reasons.is_empty() {
                reasons.push('\n');
            }
            reasons.push_str(&link.name);
            reasons.push_str(": ");
            reasons.push_str(reason);
        };
        for link in &self.0 {
            let decision = link.authorizer.authorize(a).await;
            let counted = link.counted.as_ref();
            match &decision {
                Decision::Allow(_) => counted.iter().for_each(|(allowed, _)| allowed.inc()),
                Decision::Deny(_) | Decision::Failed { denied: true, .. } => {
                    counted.iter().for_each(|(_, denied)| denied.inc());
                }
                Decision::NoOpinion(reason) => {
                    note(link, reason);
                    continue;
                }
                Decision::Failed { reason, error, .. } => {
                    note(link, reason);
                    errors.push(error.clone());
                    continue;
                }
            }
            return decision;
        }
        match errors.is_empty() {
            true => Decision::NoOpinion(reasons),
            false => Decision::Failed {
                denied: false,
                reason: reasons,
                error: crate::rbac::aggregate("", errors),
            },
        }
    }

    async fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        let (mut resource, mut other, mut incomplete) = (Vec::new(), Vec::new(), false);
        for link in &self.0 {
            let (r, o, i) = link.authorizer.rules(user, namespace).await;
            resource.extend(r);
            other.extend(o);
            incomplete |= i;
        }
        (resource, other, incomplete)
    }

    fn rules_problem(&self, user: &User) -> Option<String> {
        let all = self.0.iter();
        let problems: Vec<String> = all
            .filter_map(|l| l.authorizer.rules_problem(user))
            .collect();
        Some(crate::rbac::aggregate("", problems)).filter(|p| !p.is_empty())
    }
}
