//! Members of `system:masters` may do everything. Upstream: PrivilegedGroups, always first.

use async_trait::async_trait;
use machinery::request::{Attributes, Authorizer, Decision, User};
use serde_json::{Value, json};

/// Allows everything to the group `system:masters`.
pub struct Masters;

#[async_trait]
impl Authorizer for Masters {
    fn name(&self) -> &'static str {
        "masters"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        if a.user.in_group(crate::MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    async fn rules(&self, user: &User, _namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        if !user.in_group(crate::MASTERS) {
            return (Vec::new(), Vec::new(), false);
        }
        (
            vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})],
            vec![json!({"verbs": ["*"], "nonResourceURLs": ["*"]})],
            false,
        )
    }
}
