//! The webhooks of all configurations, and which of them a write is for.
//! Upstream: apiserver/pkg/admission/plugin/webhook/{accessors,predicates}.

use std::time::Duration;

use api::selector::LabelSelector;
use machinery::ApiError;
use machinery::object::{at, i64_at, list_at, map_at, name, str_at};
use machinery::request::{Attempt, Operation};
use serde_json::Value;

use crate::Context;

/// The group of the configurations, whose objects no webhook sees.
pub const GROUP: &str = "admissionregistration.k8s.io";
/// Versions of AdmissionReview that are spoken here.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const TIMEOUT_SECONDS: i64 = 10;

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    pub name: String,
    pub client: Value,
    pub timeout: Duration,
    /// Whether a write fails when the call does.
    pub fails: bool,
    /// The version of AdmissionReview that it is sent.
    pub review: &'static str,
    /// Whether it may be called for writes that are only tried.
    pub dry_runs: bool,
    /// Whether expressions are to tell which writes it is called for.
    pub conditional: bool,
    /// Whether it is called again when a later one changed the object.
    pub again: bool,
    rules: Vec<Value>,
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

/// How an operation is written in rules and reviews.
pub fn operation(o: Operation) -> &'static str {
    match o {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The webhooks of configurations, in their order.
pub fn of(configurations: &[Value]) -> Vec<Hook> {
    let mut all: Vec<&Value> = configurations.iter().collect();
    all.sort_by_key(|c| name(c));
    all.iter()
        .flat_map(|c| list_at(c, "webhooks"))
        .map(Hook::new)
        .collect()
}

/// The namespace that a write is in; that of a Namespace is itself.
fn namespace_of<'a>(a: &Attempt<'a>) -> &'a str {
    if is_namespace(a) { a.name } else { a.namespace }
}

fn is_namespace(a: &Attempt<'_>) -> bool {
    a.descriptor.group.is_empty() && a.descriptor.resource == "namespaces"
}

fn has(rule: &Value, field: &str, wanted: &str) -> bool {
    let all = list_at(rule, field);
    all.iter().any(|v| v == "*" || v == wanted)
}

/// Whether a rule is about a write, its version aside.
fn rule_fits(rule: &Value, a: &Attempt<'_>) -> bool {
    let resources = list_at(rule, "resources").iter().filter_map(Value::as_str);
    let mut resources = resources.map(|r| r.split_once('/').unwrap_or((r, "")));
    let fits = |(resource, sub): (&str, &str)| {
        (resource == "*" || resource == a.descriptor.resource)
            && (sub == "*" || sub == a.subresource)
    };
    let cluster = is_namespace(a) || a.namespace.is_empty();
    let in_scope = match str_at(rule, "scope") {
        "Namespaced" => !cluster,
        "Cluster" => cluster,
        _ => true,
    };
    in_scope
        && has(rule, "operations", operation(a.operation))
        && has(rule, "apiGroups", &a.descriptor.group)
        && resources.any(fits)
}

fn labels_match(selector: &LabelSelector, object: &Value) -> bool {
    let labels = map_at(object, "metadata.labels");
    selector.matches(|key| labels?.get(key)?.as_str())
}

// === Hook ===

impl Hook {
    fn new(hook: &Value) -> Self {
        let selector = |field: &str| {
            let object = at(hook, field).unwrap_or(&Value::Null);
            // Validation lets nothing else in.
            LabelSelector::from_object(object).unwrap_or_default()
        };
        let seconds = i64_at(hook, "timeoutSeconds").unwrap_or(TIMEOUT_SECONDS);
        let versions = list_at(hook, "admissionReviewVersions").iter();
        let mut known = versions.filter_map(|v| REVIEWS.into_iter().find(|r| v == r));
        Self {
            name: str_at(hook, "name").to_string(),
            client: at(hook, "clientConfig").cloned().unwrap_or_default(),
            timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            fails: str_at(hook, "failurePolicy") != "Ignore",
            review: known.next().unwrap_or(REVIEWS[0]),
            dry_runs: matches!(str_at(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            conditional: !list_at(hook, "matchConditions").is_empty(),
            again: str_at(hook, "reinvocationPolicy") == "IfNeeded",
            rules: list_at(hook, "rules").to_vec(),
            equivalent: str_at(hook, "matchPolicy") != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version at which this webhook wants to see a write; `None` where it does not.
    pub fn wants(&self, a: &Attempt<'_>, context: &Context) -> Result<Option<String>, ApiError> {
        let Some(version) = self.version(a, context) else {
            return Ok(None);
        };
        let objects = a.object.iter().chain(a.before);
        let mut objects = objects.filter(|o| o.get("metadata").is_some());
        let chosen = self.objects.is_empty() || objects.any(|o| labels_match(&self.objects, o));
        if !chosen || !self.namespace_fits(a, context)? {
            return Ok(None);
        }
        Ok(Some(version))
    }

    /// The request's own version where a rule names it; else another one that the custom resource is
    /// served at and a rule names.
    fn version(&self, a: &Attempt<'_>, context: &Context) -> Option<String> {
        let d = a.descriptor;
        let rules: Vec<&Value> = self.rules.iter().filter(|r| rule_fits(r, a)).collect();
        if rules.iter().any(|r| has(r, "apiVersions", &d.version)) {
            return Some(d.version.to_string());
        }
        if rules.is_empty() || !self.equivalent {
            return None;
        }
        let group = "apiextensions.k8s.io";
        let definition = format!("{}.{}", d.resource, d.group);
        let definition = context.get(group, "customresourcedefinitions", "", &definition)?;
        let versions = list_at(&definition, "spec.versions").iter();
        let mut served = versions.filter(|v| v.get("served") == Some(&Value::Bool(true)));
        let named = |v: &&Value| {
            rules
                .iter()
                .any(|r| has(r, "apiVersions", str_at(v, "name")))
        };
        served.find(named).map(|v| str_at(v, "name").to_string())
    }

    /// Cluster-scoped objects other than Namespaces are in every selector.
    fn namespace_fits(&self, a: &Attempt<'_>, context: &Context) -> Result<bool, ApiError> {
        let namespace = namespace_of(a);
        if self.namespaces.is_empty() || (namespace.is_empty() && !is_namespace(a)) {
            return Ok(true);
        }
        if is_namespace(a)
            && a.subresource.is_empty()
            && let Some(object) = &a.object
        {
            return Ok(labels_match(&self.namespaces, object));
        }
        let object = context.get("", "namespaces", "", namespace);
        let object = object.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        Ok(labels_match(&self.namespaces, &object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hooks_have_upstreams_order_and_defaults() {
        let hook = |name: &str| {
            json!({"name": name, "admissionReviewVersions": ["v2", "v1beta1", "v1"],
                "sideEffects": "None"})
        };
        let all = of(&[
            json!({"metadata": {"name": "b"}, "webhooks": [hook("b1"), hook("b2")]}),
            json!({"metadata": {"name": "a"}, "webhooks": [hook("a1")]}),
        ]);
        let names: Vec<&str> = all.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["a1", "b1", "b2"]);
        let one = &all[0];
        assert_eq!(one.review, "v1beta1", "the first that is known");
        assert_eq!(one.timeout, Duration::from_secs(10));
        assert!(one.fails && one.dry_runs && !one.again && !one.conditional);
    }
}
