//! ResourceQuota. Upstream: pkg/registry/core/resourcequota, ValidateResourceQuota; validation-core §6.

use std::collections::BTreeSet;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, map_at, set, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

use super::amounts;
use crate::cells;
use crate::checks::{self, quantity};

struct ResourceQuota;

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Pairs of scopes that exclude each other.
const CONFLICTS: &[(&str, &str)] = &[
    ("BestEffort", "NotBestEffort"),
    ("Terminating", "NotTerminating"),
];

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "ResourceQuota",
        "resourcequotas",
        Scope::Namespaced,
        ResourceQuota,
    )
    .short(&["quota"])
    .sub("status", SubresourceKind::Status)
}

impl Strategy for ResourceQuota {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn set_defaults(&self, obj: &mut Value) {
        for path in ["spec.hard", "status.hard", "status.used"] {
            amounts::canonical_list(obj, path);
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        set(obj, "status", json!({}));
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| {
            c.at("hard", |c| list(obj, "spec.hard", c));
            c.at("scopes", |c| scopes(obj, c));
            c.at("scopeSelector", |c| {
                c.at("matchExpressions", |c| scope_selector(obj, c));
            });
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        let set = |o| -> BTreeSet<String> {
            let all = list_at(o, "spec.scopes").iter();
            all.filter_map(|s| s.as_str().map(str::to_string)).collect()
        };
        if set(obj) != set(before) {
            let shown = json!(list_at(obj, "spec.scopes"));
            causes.at("spec", |c| {
                c.at("scopes", |c| c.invalid(&shown, checks::IMMUTABLE));
            });
        }
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status", |c| {
            for field in ["hard", "used"] {
                c.at(field, |c| list(obj, &format!("status.{field}"), c));
            }
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let hard = |name: &str| {
            map_at(obj, "spec.hard")
                .and_then(|h| h.get(name))
                .and_then(amounts::read)
        };
        for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
            if before.is_some() {
                break;
            }
            let (long, limits) = (format!("requests.{name}"), format!("limits.{name}"));
            let short = ["cpu", "memory"].contains(&name).then_some(name);
            for asked in [Some(long.as_str()), short].into_iter().flatten() {
                if let (Some(r), Some(l)) = (hard(asked), hard(&limits))
                    && r > l
                {
                    out.push(format!(
                        "ResourceQuota {asked} ({r}) should be less than {limits} ({l})"
                    ));
                }
            }
        }
        out
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Request"),
            Column::new("Limit"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let used = amounts::list(obj, "status.used");
        for (name, hard) in amounts::list(obj, "status.hard") {
            let used = used.get(&name).map_or("0".into(), |q| q.to_string());
            let text = format!("{name}: {used}/{hard}");
            if name.starts_with("limits.") {
                limits.push(text);
            } else {
                requests.push(text);
            }
        }
        vec![
            cells::name(obj),
            json!(requests.join(", ")),
            json!(limits.join(", ")),
            cells::age(obj, now),
        ]
    }
}

/// Checks names and amounts of a list at the current path.
fn list(obj: &Value, path: &str, c: &mut Causes) {
    for (name, value) in map_at(obj, path).into_iter().flatten() {
        c.key(name, |c| {
            quantity::resource_name(name, c);
            if !name.contains('/') && !quantity::is_standard_for_quota(name) {
                c.invalid(&json!(name), "must be a standard resource for quota");
            }
            quantity::amount(name, value, c);
        });
    }
}

/// Whether a scope can count a standard resource.
fn counts(scope: &str, resource: &str) -> bool {
    let pods = [
        "pods",
        "cpu",
        "memory",
        "limits.cpu",
        "limits.memory",
        "requests.cpu",
        "requests.memory",
    ];
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
        }
        _ => pods.contains(&resource),
    }
}

/// How often a scope cannot count what the quota limits.
fn misfits(obj: &Value, scope: &str) -> usize {
    let hard = map_at(obj, "spec.hard").into_iter().flatten();
    let standard = hard.filter(|(k, _)| quantity::is_standard_for_quota(k));
    standard.filter(|(k, _)| !counts(scope, k)).count()
}

fn scopes(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "spec.scopes");
    let shown = json!(all);
    for scope in all.iter().filter_map(Value::as_str) {
        if !SCOPES.contains(&scope) {
            c.invalid(&shown, "unsupported scope");
            continue;
        }
        for _ in 0..misfits(obj, scope) {
            c.invalid(&shown, "unsupported scope applied to resource");
        }
    }
    conflicts(all.iter().filter_map(Value::as_str), &shown, c);
}

fn conflicts<'a>(all: impl Iterator<Item = &'a str>, shown: &Value, c: &mut Causes) {
    let all: BTreeSet<&str> = all.collect();
    for (a, b) in CONFLICTS {
        if all.contains(a) && all.contains(b) {
            c.invalid(shown, "conflicting scopes");
        }
    }
}

fn scope_selector(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "spec.scopeSelector.matchExpressions");
    let shown = at(obj, "spec.scopeSelector").cloned().unwrap_or_default();
    for e in all {
        let (scope, operator) = (str_at(e, "scopeName"), str_at(e, "operator"));
        if !SCOPES.contains(&scope) {
            c.at("scopeName", |c| {
                c.invalid(&json!(scope), "unsupported scope");
            });
            continue;
        }
        for _ in 0..misfits(obj, scope) {
            c.invalid(&shown, "unsupported scope applied to resource");
        }
        let plain = !["PriorityClass", "VolumeAttributesClass"].contains(&scope);
        if plain && operator != "Exists" {
            c.at("operator", |c| {
                c.invalid(&json!(operator), "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
            });
        }
        let values = list_at(e, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => c.at("values", |c| {
                c.required(
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                );
            }),
            "Exists" | "DoesNotExist" if !values.is_empty() => c.at("values", |c| {
                c.invalid(
                    &json!(values),
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => c.at("operator", |c| {
                c.invalid(&json!(other), "not a valid selector operator");
            }),
        }
    }
    conflicts(all.iter().map(|e| str_at(e, "scopeName")), &shown, c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(spec: Value) -> Vec<String> {
        let mut c = Causes::new();
        ResourceQuota.validate(&json!({"spec": spec}), &mut c);
        c.as_slice().iter().map(|c| c.text()).collect()
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        assert_eq!(
            texts(
                json!({"hard": {"cpu": "1", "pods": "3", "count/widgets.example.com": "1", "requests.example.com/gpu": "2"}, "scopes": ["NotBestEffort"]})
            ),
            Vec::<String>::new()
        );
        for (spec, expected) in [
            (
                json!({"hard": {"storage": "1"}}),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ),
            (
                json!({"hard": {"pods": "-1"}}),
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
        ] {
            assert_eq!(texts(spec), [expected]);
        }
    }

    #[test]
    fn the_row_divides_requests_from_limits() {
        let obj = json!({"metadata": {"name": "q"}, "status": {"hard": {"limits.cpu": "2", "pods": "5"}, "used": {"pods": "1"}}});
        let row = ResourceQuota.row(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(row[1..3], [json!("pods: 1/5"), json!("limits.cpu: 0/2")]);
    }
}
