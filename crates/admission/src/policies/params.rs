//! Parameters of policies. Upstream: plugin/policy/generic/policy_dispatcher.go, CollectParams.

use std::fmt;
use std::sync::Arc;

use api::selector::LabelSelector;
use client::Cache;
use machinery::Descriptor;
use machinery::object::{at, map_at, set, str_at};
use machinery::request::Attempt;
use serde_json::{Value, json};

use super::Binding;
use crate::Context;

/// The kind of parameters.
pub struct ParamKind {
    api_version: String,
    kind: String,
}

impl ParamKind {
    pub fn new(kind: &Value) -> Self {
        Self {
            api_version: str_at(kind, "apiVersion").to_string(),
            kind: str_at(kind, "kind").to_string(),
        }
    }

    fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(g, _)| g)
    }

    fn descriptor(&self, context: &Context) -> Option<Arc<Descriptor>> {
        resource_of(context, self.group(), &self.kind)
    }

    /// Whether the kind is served.
    pub fn is_known(&self, context: &Context) -> bool {
        self.descriptor(context).is_some()
    }
}

/// The stored resource of a group and kind.
pub fn resource_of(context: &Context, group: &str, kind: &str) -> Option<Arc<Descriptor>> {
    let all = context.reads.resources();
    let mut found = all.into_iter().filter(|d| d.stored && d.kind == kind);
    found.find(|d| d.group == group)
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.api_version.rsplit('/').next().unwrap_or_default();
        write!(f, "{}/{version}, Kind={}", self.group(), self.kind)
    }
}

/// The parameters of a binding for a write: none is one evaluation without.
pub fn collect(
    kind: Option<&ParamKind>,
    binding: &Binding,
    a: &Attempt<'_>,
    context: &Context,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, &binding.param_ref) else {
        return Ok(vec![None]);
    };
    let unknown = || {
        let (version, kind) = (&kind.api_version, &kind.kind);
        format!("paramKind kind `&ParamKind{{APIVersion:{version},Kind:{kind},}}` not known")
    };
    let d = kind.descriptor(context).ok_or_else(unknown)?;
    let cache = context
        .reads
        .cache(&d.group_resource())
        .ok_or_else(unknown)?;
    let namespace = namespace(&d, reference, a)?;
    let mut found = find(&*cache, namespace, reference);
    if found.is_empty() {
        return match str_at(reference, "parameterNotFoundAction") {
            "Allow" => Ok(Vec::new()),
            _ => {
                Err("no params found for policy binding with `Deny` parameterNotFoundAction".into())
            }
        };
    }
    for object in &mut found {
        set(object, "apiVersion", json!(kind.api_version));
        set(object, "kind", json!(kind.kind));
    }
    Ok(found.into_iter().map(Some).collect())
}

fn namespace<'a>(d: &Descriptor, reference: &'a Value, a: &Attempt<'a>) -> Result<&'a str, String> {
    let given = str_at(reference, "namespace");
    match (d.namespaced(), given) {
        (false, "") => Ok(""),
        (false, _) => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "") if a.namespace.is_empty() => Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into(),
        ),
        (true, "") => Ok(a.namespace),
        (true, given) => Ok(given),
    }
}

fn find(cache: &dyn Cache, namespace: &str, reference: &Value) -> Vec<Value> {
    let name = str_at(reference, "name");
    if !name.is_empty() {
        let entry = cache.get(namespace, name);
        return entry.and_then(|e| crate::parsed(&e)).into_iter().collect();
    }
    let selector = at(reference, "selector").and_then(LabelSelector::from_object);
    let selector = selector.unwrap_or_default();
    let all = cache.list((!namespace.is_empty()).then_some(namespace));
    let all = all.iter().filter_map(|e| crate::parsed(e));
    all.filter(|object| {
        let labels = map_at(object, "metadata.labels");
        selector.matches(|key| labels?.get(key)?.as_str())
    })
    .collect()
}
