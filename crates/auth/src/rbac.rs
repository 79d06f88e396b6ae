//! The RBAC authorizer. Upstream: plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go.
//! Differs inside only: bindings are indexed by subject, so a decision does not walk all of them.

use std::sync::Arc;

use async_trait::async_trait;
use client::Reads;
use machinery::request::{Attributes, Authorizer, Decision, User};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::feed::Feed;
use crate::limits;

pub mod index;
pub mod rule;

pub use rule::Rule;

use index::Index;

/// Decides by the Roles, ClusterRoles and bindings in the shared caches.
pub struct Rbac {
    reads: Arc<dyn Reads>,
    state: Mutex<State>,
}

struct State {
    index: Index,
    cluster_roles: Feed,
    roles: Feed,
    cluster_bindings: Feed,
    bindings: Feed,
}

// === Rbac ===

impl Rbac {
    /// An authorizer over these caches; reads nothing before it is first asked.
    pub fn new(reads: Arc<dyn Reads>) -> Self {
        Self {
            reads,
            state: Mutex::new(State {
                index: Index::default(),
                cluster_roles: Feed::new(crate::RBAC_GROUP, "clusterroles"),
                roles: Feed::new(crate::RBAC_GROUP, "roles"),
                cluster_bindings: Feed::new(crate::RBAC_GROUP, "clusterrolebindings"),
                bindings: Feed::new(crate::RBAC_GROUP, "rolebindings"),
            }),
        }
    }

    fn with_index<R>(&self, f: impl FnOnce(&Index) -> R) -> R {
        let mut state = self.state.lock();
        state.refresh(&*self.reads);
        f(&state.index)
    }

    /// The decision.
    pub fn decide(&self, a: &Attributes) -> Decision {
        self.with_index(|index| {
            let mut errors: Vec<String> = Vec::new();
            let mut allowed = None;
            index.visit(&a.user, &a.namespace, |binding, subject| {
                match index.rules_of(binding) {
                    Some(rules) if rules.iter().any(|r| r.allows(a)) => {
                        allowed = Some(binding.reason(subject));
                        return false;
                    }
                    Some(_) => {}
                    None if errors.len() < limits::REASON_ERRORS_MAX => {
                        errors.push(role_missing(binding));
                    }
                    None => {}
                }
                true
            });
            match allowed {
                Some(reason) => Decision::Allow(reason),
                None => Decision::NoOpinion(aggregate("RBAC: ", errors)),
            }
        })
    }

    /// All rules of a user in a namespace (`""`: cluster-wide ones only), and errors of missing roles.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        self.with_index(|index| {
            let (mut rules, mut errors) = (Vec::new(), Vec::new());
            index.visit(user, namespace, |binding, _| {
                match index.rules_of(binding) {
                    Some(found) => rules.extend(found.iter().cloned()),
                    None => errors.push(role_missing(binding)),
                }
                true
            });
            (rules, errors)
        })
    }

    /// The rules of one role; namespace `""` for a ClusterRole.
    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.with_index(|index| index.role(namespace, name).map(|r| r.to_vec()))
    }
}

impl State {
    fn refresh(&mut self, reads: &dyn Reads) {
        let index = &mut self.index;
        self.cluster_roles
            .poll(reads, |s| index.apply_roles(s, true));
        self.roles.poll(reads, |s| index.apply_roles(s, false));
        self.cluster_bindings
            .poll(reads, |s| index.apply_bindings(s, true));
        self.bindings
            .poll(reads, |s| index.apply_bindings(s, false));
    }
}

#[async_trait]
impl Authorizer for Rbac {
    fn name(&self) -> &'static str {
        "rbac"
    }

    async fn authorize(&self, a: &Attributes) -> Decision {
        self.decide(a)
    }

    async fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>, bool) {
        let (rules, _) = self.rules_for(user, namespace);
        let (mut resource, mut other) = (Vec::new(), Vec::new());
        for r in rules {
            if !r.resources.is_empty() {
                let mut one =
                    json!({"verbs": r.verbs, "apiGroups": r.api_groups, "resources": r.resources});
                if !r.resource_names.is_empty() {
                    one["resourceNames"] = json!(r.resource_names);
                }
                resource.push(one);
            }
            if !r.urls.is_empty() {
                other.push(json!({"verbs": r.verbs, "nonResourceURLs": r.urls}));
            }
        }
        (resource, other, false)
    }
}

fn role_missing(binding: &index::Binding) -> String {
    let kind = if binding.role_is_cluster {
        "clusterrole"
    } else {
        "role"
    };
    format!(
        "{kind}.{} \"{}\" not found",
        crate::RBAC_GROUP,
        binding.role
    )
}

/// Upstream's text of an aggregate: one error alone, several as `[a, b]`, duplicates once.
pub(crate) fn aggregate(prefix: &str, errors: Vec<String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for e in errors {
        if !distinct.contains(&e) {
            distinct.push(e);
        }
    }
    match distinct.as_slice() {
        [] => String::new(),
        [one] => format!("{prefix}{one}"),
        many => format!("{prefix}[{}]", many.join(", ")),
    }
}
