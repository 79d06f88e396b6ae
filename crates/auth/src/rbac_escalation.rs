//! Nobody grants what he does not hold: the checks on writes of the RBAC kinds, as an admission plugin
//! that must stand first in the validating phase. Upstream: pkg/registry/rbac/*/policybased.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::causes::go_quote;
use machinery::object::{list_at, name, str_at};
use machinery::request::{Admission, Attempt, Attributes, Authorizer, Decision, Operation, Steps};
use serde_json::{Map, Value};

use crate::limits;
use crate::rbac::rule::{Rule, compact, go_list, missing};
use crate::rbac::{Rbac, aggregate};

/// The escalation and bind checks.
pub struct Escalation {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

// === Escalation ===

impl Escalation {
    /// `rbac` gives the rules that users hold; `authorizer` decides about the verbs `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(&self, a: &Attempt<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: a.user.clone(),
            verb: verb.into(),
            group: crate::RBAC_GROUP.into(),
            version: "*".into(),
            resource: resource.into(),
            namespace: a.namespace.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        };
        matches!(
            self.authorizer.authorize(&attributes).await,
            Decision::Allow(_)
        )
    }

    async fn check_role(&self, a: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
        let resource = &*a.descriptor.resource;
        if self.may(a, "escalate", resource, name_of(a, object)).await {
            return Ok(());
        }
        if a.before.is_some_and(|b| only_gc_fields_change(b, object)) {
            return Ok(());
        }
        if let Some(why) = self.escalation(a, &rules_of(object)?) {
            return Err(refused(a, object, &why));
        }
        let selectors = |o: &Value| !list_at(o, "aggregationRule.clusterRoleSelectors").is_empty();
        let aggregates = selectors(object) || a.before.is_some_and(selectors);
        if resource == "clusterroles"
            && aggregates
            && self.escalation(a, &full_authority()).is_some()
        {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(refused(a, object, why));
        }
        Ok(())
    }

    async fn check_binding(&self, a: &Attempt<'_>, object: &Value) -> Result<(), ApiError> {
        let role = str_at(object, "roleRef.name");
        let (resource, namespace) = match str_at(object, "roleRef.kind") {
            "ClusterRole" => ("clusterroles", ""),
            _ => ("roles", a.namespace),
        };
        if self.may(a, "bind", resource, role).await {
            return Ok(());
        }
        if a.before.is_some_and(|b| only_gc_fields_change(b, object)) {
            return Ok(());
        }
        let Some(rules) = self.rbac.role_rules(namespace, role) else {
            return Err(ApiError::not_found(crate::RBAC_GROUP, resource, role));
        };
        match self.escalation(a, &rules) {
            Some(why) => Err(refused(a, object, &why)),
            None => Ok(()),
        }
    }

    /// Why the user may not grant `rules`, `None` where he holds them all.
    fn escalation(&self, a: &Attempt<'_>, rules: &[Rule]) -> Option<String> {
        let (own, errors) = self.rbac.rules_for(a.user, a.namespace);
        let mut lacking = missing(&own, rules);
        if lacking.is_empty() {
            return None;
        }
        lacking.truncate(limits::MISSING_RULES_MAX);
        let mut lines: Vec<String> = compact(lacking).iter().map(Rule::compact_text).collect();
        lines.sort();
        lines.dedup();
        let mut text = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            go_quote(&a.user.name),
            go_list(&a.user.groups),
            lines.join("\n")
        );
        if !errors.is_empty() {
            text.push_str(&format!("; resolution errors: [{}]", aggregate("", errors)));
        }
        Some(text)
    }
}

#[async_trait]
impl Admission for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> Steps {
        Steps::Validate
    }

    async fn validate(&self, a: &Attempt<'_>) -> Result<(), ApiError> {
        if a.descriptor.group != crate::RBAC_GROUP || !a.subresource.is_empty() {
            return Ok(());
        }
        let Some(object) = &a.object else {
            return Ok(());
        };
        if a.user.in_group(crate::MASTERS) {
            return Ok(());
        }
        match &*a.descriptor.resource {
            "roles" | "clusterroles" => self.check_role(a, object).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(a, object).await,
            _ => Ok(()),
        }
    }
}

fn name_of<'a>(a: &Attempt<'a>, object: &'a Value) -> &'a str {
    if a.name.is_empty() {
        name(object)
    } else {
        a.name
    }
}

fn refused(a: &Attempt<'_>, object: &Value, why: &str) -> ApiError {
    let d = a.descriptor;
    ApiError::forbidden(&d.group, &d.resource, name(object), why)
}

/// The rules of a Role or ClusterRole object; 400 where they do not parse.
pub fn rules_of(object: &Value) -> Result<Vec<Rule>, ApiError> {
    let rules = object.get("rules").cloned().unwrap_or(Value::Null);
    let parsed: Option<Vec<Rule>> =
        serde_json::from_value(rules).map_err(|e| ApiError::bad_request(format!("rules: {e}")))?;
    Ok(parsed.unwrap_or_default())
}

fn full_authority() -> Vec<Rule> {
    let any = || vec!["*".to_string()];
    vec![
        Rule {
            verbs: any(),
            api_groups: any(),
            resources: any(),
            ..Rule::default()
        },
        Rule {
            verbs: any(),
            urls: any(),
            ..Rule::default()
        },
    ]
}

/// Whether only owner references, finalizers and managed fields differ.
fn only_gc_fields_change(before: &Value, after: &Value) -> bool {
    let strip = |o: &Value| {
        let mut o = o.clone();
        if let Some(meta) = o.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "generation",
            ] {
                meta.remove(field);
            }
        }
        without_empty(o)
    };
    strip(before) == strip(after)
}

/// The object without nulls, empty lists and empty maps at its top, which mean the same as nothing.
fn without_empty(o: Value) -> Value {
    let Value::Object(map) = o else { return o };
    let kept = map.into_iter().filter(|(_, v)| match v {
        Value::Null => false,
        Value::Array(a) => !a.is_empty(),
        Value::Object(m) => !m.is_empty(),
        _ => true,
    });
    Value::Object(kept.collect::<Map<_, _>>())
}
