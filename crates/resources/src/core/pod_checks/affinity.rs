//! Affinity and topology spread. validation-pod §8.13, §8.14.

use api::names;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use serde_json::{Value, json};

use super::Cx;
use crate::checks::{self, selectors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks an affinity at the current path.
pub fn all(affinity: &Value, cx: Cx<'_>, c: &mut Causes) {
    if let Some(node) = at(affinity, "nodeAffinity") {
        c.at("nodeAffinity", |c| of_nodes(node, cx, c));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = at(affinity, kind) {
            c.at(kind, |c| of_pods(pods, c));
        }
    }
}

fn of_nodes(node: &Value, cx: Cx<'_>, c: &mut Causes) {
    if let Some(required) = at(node, REQUIRED) {
        let had = cx.before.is_some_and(had_bad_values);
        c.at(REQUIRED, |c| selectors::node_selector(required, !had, c));
    }
    for (i, p) in list_at(node, PREFERRED).iter().enumerate() {
        c.at(PREFERRED, |c| {
            c.index(i, |c| {
                weight(p, c);
                if let Some(term) = at(p, "preference") {
                    c.at("preference", |c| {
                        selectors::node_selector_term(term, false, c)
                    });
                }
            });
        });
    }
}

/// Whether the stored spec has values that are no label values already.
fn had_bad_values(old: &Value) -> bool {
    list_at(
        old,
        &format!("affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms"),
    )
    .iter()
    .flat_map(|t| list_at(t, "matchExpressions"))
    .flat_map(|e| list_at(e, "values"))
    .filter_map(Value::as_str)
    .any(|v| !names::label_value(v).is_empty())
}

fn weight(p: &Value, c: &mut Causes) {
    let n = i64_at(p, "weight").unwrap_or(0);
    if !(1..=100).contains(&n) {
        c.at("weight", |c| {
            c.invalid(&json!(n), "must be in the range 1-100");
        });
    }
}

fn of_pods(pods: &Value, c: &mut Causes) {
    for (i, term) in list_at(pods, REQUIRED).iter().enumerate() {
        c.at(REQUIRED, |c| c.index(i, |c| pod_term(term, c)));
    }
    for (i, p) in list_at(pods, PREFERRED).iter().enumerate() {
        c.at(PREFERRED, |c| {
            c.index(i, |c| {
                weight(p, c);
                let term = at(p, "podAffinityTerm").unwrap_or(&Value::Null);
                c.at("podAffinityTerm", |c| pod_term(term, c));
            });
        });
    }
}

fn pod_term(term: &Value, c: &mut Causes) {
    for field in ["labelSelector", "namespaceSelector"] {
        c.at(field, |c| selectors::label_selector(at(term, field), c));
    }
    for ns in list_at(term, "namespaces").iter().filter_map(Value::as_str) {
        c.at("namespace", |c| {
            checks::all(ns, names::dns1123_label(ns), c)
        });
    }
    label_keys(term, c);
    topology_key(term, true, c);
}

fn topology_key(term: &Value, form: bool, c: &mut Causes) {
    let key = str_at(term, "topologyKey");
    c.at("topologyKey", |c| {
        if key.is_empty() {
            c.required("can not be empty");
        }
        if form {
            checks::all(key, names::qualified_name(key), c);
        }
    });
}

fn texts<'a>(obj: &'a Value, field: &str) -> Vec<&'a str> {
    list_at(obj, field)
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// matchLabelKeys and mismatchLabelKeys, at the term's path.
fn label_keys(term: &Value, c: &mut Causes) {
    let selector = at(term, "labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = texts(term, field);
        if keys.is_empty() {
            continue;
        }
        c.at(field, |c| {
            if selector.is_none() {
                c.forbidden("must not be specified when labelSelector is not set");
                return;
            }
            for (k, key) in keys.iter().enumerate() {
                c.index(k, |c| checks::all(key, names::qualified_name(key), c));
            }
        });
    }
    twice(term, c);
    let mismatch = texts(term, "mismatchLabelKeys");
    for (k, key) in texts(term, "matchLabelKeys").iter().enumerate() {
        if mismatch.contains(key) {
            c.at("matchLabelKeys", |c| {
                c.index(k, |c| {
                    c.invalid(
                        &json!(key),
                        "exists in both matchLabelKeys and mismatchLabelKeys",
                    );
                });
            });
        }
    }
}

/// A key that the selector names besides the requirement merged in for it.
fn twice(term: &Value, c: &mut Causes) {
    let Some(selector) = at(term, "labelSelector") else {
        return;
    };
    let labels = map_at(selector, "matchLabels");
    for (k, key) in texts(term, "matchLabelKeys").iter().enumerate() {
        let named = usize::from(labels.is_some_and(|l| l.contains_key(*key)));
        let expressions = list_at(selector, "matchExpressions").iter();
        let count = named + expressions.filter(|e| str_at(e, "key") == *key).count();
        if count > 1 {
            c.index(k, |c| {
                c.invalid(
                    &json!(key),
                    "exists in both matchLabelKeys and labelSelector",
                );
            });
        }
    }
}

/// Checks one topology spread constraint at the current path.
pub fn spread(spec: &Value, i: usize, t: &Value, c: &mut Causes) {
    if i64_at(t, "maxSkew").unwrap_or(0) <= 0 {
        let n = i64_at(t, "maxSkew").unwrap_or(0);
        c.at("maxSkew", |c| {
            c.invalid(&json!(n), "must be greater than zero");
        });
    }
    topology_key(t, false, c);
    let when = str_at(t, "whenUnsatisfiable");
    let actions = &["DoNotSchedule", "ScheduleAnyway"];
    if !actions.contains(&when) {
        c.at("whenUnsatisfiable", |c| {
            c.not_supported_in_order(&json!(when), actions)
        });
    }
    let pair = |o: &Value| {
        (
            str_at(o, "topologyKey").to_string(),
            str_at(o, "whenUnsatisfiable").to_string(),
        )
    };
    let all = list_at(spec, "topologySpreadConstraints");
    if all.iter().take(i).any(|o| pair(o) == pair(t)) {
        c.at("{topologyKey, whenUnsatisfiable}", |c| {
            c.duplicate(&json!(format!("{{{}, {when}}}", str_at(t, "topologyKey"))));
        });
    }
    if let Some(n) = i64_at(t, "minDomains") {
        c.at("minDomains", |c| {
            if n <= 0 {
                c.invalid(&json!(n), "must be greater than zero");
            }
            if when != "DoNotSchedule" {
                c.invalid(
                    &json!(n),
                    format!(
                        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                    ),
                );
            }
        });
    }
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        checks::optional_one_of(t, field, &["Honor", "Ignore"], c);
    }
    label_keys(t, c);
    c.at("labelSelector", |c| {
        selectors::label_selector(at(t, "labelSelector"), c)
    });
}
