//! Which webhooks a write concerns. Upstream: generic.Webhook.ShouldCallHook and its predicates.

use std::sync::Arc;

use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::Namespace;
use machinery::object::map_at;
use machinery::request::{Attempt, GroupVersionKind, Operation};
use machinery::{ApiError, Descriptor};
use serde_json::Value;

use super::conditions::{Input, Verdict, verdict};
use super::configuration::{Hook, Rule};
use super::{review, view::View};
use crate::Context;

/// As which resource and kind a webhook sees a write.
#[derive(Clone)]
pub struct Invocation {
    /// `None`: as it was requested.
    pub version: Option<Arc<Descriptor>>,
    pub kind: GroupVersionKind,
}

impl Invocation {
    /// As what rules name a write: the requested version, or else, where equivalent ones count, the first of those by the
    /// order of the rules.
    pub fn by_rules<R>(
        a: &Attempt<'_>,
        rules: &[R],
        equivalent: bool,
        fits: impl Fn(&R, &Descriptor) -> bool,
    ) -> Option<Self> {
        let own = a.descriptor;
        if rules.iter().any(|r| fits(r, own)) {
            return Some(Self {
                version: None,
                kind: a.kind(),
            });
        }
        if !equivalent || rules.is_empty() {
            return None;
        }
        let has_sub = |d: &Arc<Descriptor>| {
            a.subresource.is_empty() || d.subresources.iter().any(|s| s.name == a.subresource)
        };
        let is_own = |d: &Arc<Descriptor>| {
            (&d.group, &d.version, &d.resource) == (&own.group, &own.version, &own.resource)
        };
        let all = a.versions.equivalents(own);
        let others: Vec<_> = all.iter().filter(|d| !is_own(d) && has_sub(d)).collect();
        let mut rules = rules.iter();
        let found = rules.find_map(|r| others.iter().find(|d| fits(r, d)))?;
        Some(Self {
            kind: found.kind_of(a.subresource),
            version: Some(Arc::clone(found)),
        })
    }

    /// Whether another one sees the same objects.
    pub fn shows_as(&self, other: &Self) -> bool {
        let version = |i: &Self| {
            let d = i.version.as_ref();
            d.map(|d| (d.group.clone(), d.version.clone()))
        };
        version(self) == version(other)
    }
}

/// Upstream's name of an operation.
pub fn operation(o: Operation) -> &'static str {
    match o {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The namespace that a write is in; a Namespace is in its own.
pub fn namespace<'a>(a: &'a Attempt<'_>) -> &'a str {
    let d = a.descriptor;
    if d.group.is_empty() && d.resource == "namespaces" {
        return named(a);
    }
    a.namespace
}

/// The name of what is written; what is made under a generated name may have none yet.
pub fn named<'a>(a: &'a Attempt<'_>) -> &'a str {
    match a.name {
        "" => a.object.as_ref().map_or("", machinery::object::name),
        name => name,
    }
}

/// Whether and how a webhook is to be called.
pub async fn invocation(
    context: &Context,
    a: &Attempt<'_>,
    view: &mut View,
    hook: &Hook,
) -> Result<Option<Invocation>, ApiError> {
    // What a selector runs into only counts where the rules match.
    let in_namespace = matches_namespace(context, a, view, hook).await;
    if let Ok(false) = in_namespace {
        return Ok(None);
    }
    let object = matches_object(a, view, hook);
    if let Ok(false) = object {
        return Ok(None);
    }
    let Some(found) = by_rules(a, hook) else {
        return Ok(None);
    };
    in_namespace?;
    object?;
    if hook.conditions.is_empty() {
        return Ok(Some(found));
    }
    view.show(a, &found).await?;
    let meets = meets_conditions(context, a, view, hook, &found).await?;
    Ok(meets.then_some(found))
}

async fn meets_conditions(
    context: &Context,
    a: &Attempt<'_>,
    view: &View,
    hook: &Hook,
    found: &Invocation,
) -> Result<bool, ApiError> {
    let results = match hook.compiled(context.conditions.as_deref()) {
        Some(compiled) => {
            let request = review::request_facts(a, found);
            let input = Input {
                attempt: a,
                object: view.object(a),
                before: view.before(a),
                kind: &found.kind,
                request: &request,
                context,
            };
            compiled.evaluate(&input).await
        }
        None => {
            let why =
                "matchConditions cannot be evaluated: this server was built without expressions";
            vec![Err(why.to_string())]
        }
    };
    match verdict(&results, hook.ignores_failure) {
        Verdict::Matches => Ok(true),
        Verdict::Excluded => Ok(false),
        Verdict::Failed(why) => {
            let d = a.descriptor;
            Err(ApiError::forbidden(&d.group, &d.resource, a.name, &why))
        }
    }
}

fn by_rules(a: &Attempt<'_>, hook: &Hook) -> Option<Invocation> {
    let fits = |rule: &Rule, d: &Descriptor| rule_matches(rule, a, d);
    Invocation::by_rules(a, &hook.rules, hook.equivalent, fits)
}

fn rule_matches(rule: &Rule, a: &Attempt<'_>, d: &Descriptor) -> bool {
    let any = |list: &[String], wanted: &str| list.iter().any(|i| i == "*" || i == wanted);
    let is_namespace = d.group.is_empty() && d.version == "v1" && d.resource == "namespaces";
    let inside = !namespace(a).is_empty();
    let in_scope = match rule.scope.as_str() {
        "*" => true,
        "Namespaced" => !is_namespace && inside,
        "Cluster" => is_namespace || !inside,
        _ => false,
    };
    let resource = |wanted: &String| {
        let (resource, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
        (resource == "*" || resource == d.resource) && (sub == "*" || sub == a.subresource)
    };
    in_scope
        && any(&rule.operations, operation(a.operation))
        && any(&rule.groups, &d.group)
        && any(&rule.versions, &d.version)
        && rule.resources.iter().any(resource)
}

fn selected(selector: &LabelSelector, object: &Value) -> bool {
    let labels = map_at(object, "metadata.labels");
    selector.matches(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
}

fn wrong_selector(field: &str) -> ApiError {
    ApiError::internal(format!("{field} is not a valid label selector"))
}

async fn matches_namespace(
    context: &Context,
    a: &Attempt<'_>,
    view: &View,
    hook: &Hook,
) -> Result<bool, ApiError> {
    let is_namespace = a.descriptor.group.is_empty() && a.descriptor.resource == "namespaces";
    let name = namespace(a);
    if name.is_empty() && !is_namespace {
        return Ok(true);
    }
    let selector = hook.namespace_selector.as_ref();
    let selector = selector.ok_or_else(|| wrong_selector("namespaceSelector"))?;
    if selector.is_empty() {
        return Ok(true);
    }
    let writes = matches!(a.operation, Operation::Create | Operation::Update);
    if is_namespace && a.subresource.is_empty() && writes {
        return Ok(view.object(a).is_some_and(|o| selected(selector, o)));
    }
    let object = stored_namespace(context, name).await?;
    Ok(selected(selector, &object))
}

/// A namespace from the cache, or from the server where the cache may be late.
async fn stored_namespace(context: &Context, name: &str) -> Result<Value, ApiError> {
    if let Some(found) = context.get("", "namespaces", "", name) {
        return Ok(found);
    }
    let missing = || ApiError::not_found("", "namespaces", name);
    let client = context.writer.get().ok_or_else(missing)?;
    match client.all::<Namespace>().get(name).await {
        Ok(found) => serde_json::to_value(found).map_err(ApiError::internal),
        Err(e) if client::is_not_found(&e) => Err(missing()),
        Err(e) => Err(ApiError::internal(client::message(&e))),
    }
}

fn matches_object(a: &Attempt<'_>, view: &View, hook: &Hook) -> Result<bool, ApiError> {
    let selector = hook.object_selector.as_ref();
    let selector = selector.ok_or_else(|| wrong_selector("objectSelector"))?;
    if selector.is_empty() {
        return Ok(true);
    }
    // Options of a connect have no metadata, and so match nothing.
    let matches =
        |o: Option<&Value>| o.is_some_and(|o| o.get("metadata").is_some() && selected(selector, o));
    Ok(matches(view.object(a)) || matches(view.before(a)))
}
