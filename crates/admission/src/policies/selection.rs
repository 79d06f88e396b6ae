//! Whether a write is among those that `matchConstraints` or `matchResources` name.
//! Upstream: plugin/policy/matching.

use api::selector::LabelSelector;
use machinery::Descriptor;
use machinery::object::{at, list_at, map_at, str_at};
use machinery::request::{Attempt, Operation};
use serde_json::Value;

use crate::Context;
use crate::hooks::Invocation;

/// Selectors and rules. The default one selects everything.
#[derive(Default)]
pub struct Selection {
    namespaces: LabelSelector,
    objects: LabelSelector,
    excluded: Vec<Value>,
    rules: Vec<Value>,
    /// `matchPolicy: Exact`: other versions of a resource do not count.
    exact: bool,
}

impl Selection {
    pub fn new(resources: Option<&Value>) -> Self {
        let Some(resources) = resources else {
            return Self::default();
        };
        let selector = |field: &str| {
            let object = at(resources, field).unwrap_or(&Value::Null);
            // Validation lets nothing else in.
            LabelSelector::from_object(object).unwrap_or_default()
        };
        Self {
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            excluded: list_at(resources, "excludeResourceRules").to_vec(),
            rules: list_at(resources, "resourceRules").to_vec(),
            exact: str_at(resources, "matchPolicy") == "Exact",
        }
    }

    /// As what a write is selected, if it is. The error counts as one of the configuration.
    pub fn fits(&self, a: &Attempt<'_>, context: &Context) -> Result<Option<Invocation>, String> {
        if self.by_rules(&self.excluded, a).is_some() {
            return Ok(None);
        }
        let own = || Invocation {
            version: None,
            kind: a.kind(),
        };
        let found = match self.rules.is_empty() {
            true => Some(own()),
            false => self.by_rules(&self.rules, a),
        };
        let Some(found) = found else {
            return Ok(None);
        };
        Ok(self.by_labels(a, context)?.then_some(found))
    }

    fn by_rules(&self, rules: &[Value], a: &Attempt<'_>) -> Option<Invocation> {
        let fits = |rule: &Value, d: &Descriptor| rule_fits(rule, a, d);
        Invocation::by_rules(a, rules, !self.exact, fits)
    }

    fn by_labels(&self, a: &Attempt<'_>, context: &Context) -> Result<bool, String> {
        let objects = a.object.iter().chain(a.before);
        let mut objects = objects.filter(|o| o.get("metadata").is_some());
        let object_fits = self.objects.is_empty() || objects.any(|o| labels_fit(&self.objects, o));
        Ok(object_fits && self.namespace_fits(a, context)?)
    }

    /// Cluster-scoped objects other than Namespaces are in every selector.
    fn namespace_fits(&self, a: &Attempt<'_>, context: &Context) -> Result<bool, String> {
        let own = is_namespace(a);
        if self.namespaces.is_empty() || (a.namespace.is_empty() && !own) {
            return Ok(true);
        }
        let object = a.object.as_ref().filter(|_| a.subresource.is_empty());
        if let Some(object) = object.filter(|_| own) {
            return Ok(labels_fit(&self.namespaces, object));
        }
        let name = if own { a.name } else { a.namespace };
        match context.get("", "namespaces", "", name) {
            Some(namespace) => Ok(labels_fit(&self.namespaces, &namespace)),
            None => Err(format!("namespaces {name:?} not found")),
        }
    }
}

fn is_namespace(a: &Attempt<'_>) -> bool {
    a.descriptor.group.is_empty() && a.descriptor.resource == "namespaces"
}

fn labels_fit(selector: &LabelSelector, object: &Value) -> bool {
    let labels = map_at(object, "metadata.labels");
    selector.matches(|key| labels?.get(key)?.as_str())
}

/// How an operation is written in rules and requests.
pub fn operation(o: Operation) -> &'static str {
    match o {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn rule_fits(rule: &Value, a: &Attempt<'_>, d: &Descriptor) -> bool {
    let has = |field: &str, wanted: &str| {
        let all = list_at(rule, field);
        all.iter().any(|v| v == "*" || v == wanted)
    };
    let resources = list_at(rule, "resources").iter().filter_map(Value::as_str);
    let mut resources = resources.map(|r| r.split_once('/').unwrap_or((r, "")));
    let named = |(resource, sub): (&str, &str)| {
        (resource == "*" || resource == d.resource) && (sub == "*" || sub == a.subresource)
    };
    let cluster = is_namespace(a) || a.namespace.is_empty();
    let in_scope = match str_at(rule, "scope") {
        "Namespaced" => !cluster,
        "Cluster" => cluster,
        _ => true,
    };
    let names = list_at(rule, "resourceNames");
    let wanted = names.is_empty() || names.iter().any(|n| n == a.name);
    in_scope
        && wanted
        && has("operations", operation(a.operation))
        && has("apiGroups", &d.group)
        && has("apiVersions", &d.version)
        && resources.any(named)
}
