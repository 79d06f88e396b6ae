//! What an update of a pod, and of its ephemeral containers, may do. Upstream: ValidatePodUpdate,
//! ValidatePodEphemeralContainersUpdate; validation-pod §10.

use machinery::Causes;
use machinery::object::{at, i64_at, list_at, map_at, remove, set, str_at};
use serde_json::{Value, json};

use super::super::pod_checks::{self, annotations};
use super::super::{pod_spec, same};
use super::prepare::APPARMOR;
use super::rules;

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const SECONDS_MAX: i64 = i32::MAX as i64;
const REQUIRED: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// An update of the pod itself.
pub fn pod(obj: &Value, before: &Value, causes: &mut Causes) {
    rules::full(obj, Some(before), causes);
    annotation_changes(obj, before, causes);
    let (new, old) = (&obj["spec"], &before["spec"]);
    causes.at("spec", |c| {
        for list in ["containers", "initContainers"] {
            let known = c.as_slice().len();
            c.at(list, |c| images(list_at(new, list), list_at(old, list), c));
            if c.as_slice().len() > known {
                return;
            }
        }
        if !deadline(new, old, c) {
            return;
        }
        tolerations(new, old, c);
        gates(new, old, c);
        if same::values(new, old) {
            return;
        }
        let mut wanted = new.clone();
        if !list_at(old, "schedulingGates").is_empty() {
            gated(new, old, &mut wanted, c);
        }
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            back(&mut wanted, old, field);
        }
        for list in ["containers", "initContainers"] {
            let olds = list_at(old, list).to_vec();
            if let Some(Value::Array(all)) = wanted.get_mut(list) {
                for (one, old) in all.iter_mut().zip(&olds) {
                    back(one, old, "image");
                }
            }
        }
        if !same::values(&wanted, old) {
            c.forbidden(format!("{ONLY}\n{}", crate::diff::unified(old, &wanted)));
        }
    });
}

/// A field becomes what it was.
fn back(obj: &mut Value, before: &Value, path: &str) {
    match at(before, path) {
        Some(v) => set(obj, path, v.clone()),
        None => {
            remove(obj, path);
        }
    }
}

/// Annotations that stay as they were made.
pub fn annotation_changes(obj: &Value, before: &Value, causes: &mut Causes) {
    let notes = |o| {
        map_at(o, "metadata.annotations")
            .cloned()
            .unwrap_or_default()
    };
    let (new, old) = (notes(obj), notes(before));
    let fixed = |k: &str| k.starts_with(APPARMOR) || k == annotations::MIRROR;
    let texts = |k: &str| match k {
        annotations::MIRROR => ("mirror pod annotation", "mirror pod annotation"),
        _ => ("AppArmor annotations", "AppArmor annotations"),
    };
    causes.at("metadata", |c| {
        c.at("annotations", |c| {
            for (key, value) in old.iter().filter(|(k, _)| fixed(k)) {
                if new.get(key) != Some(value) {
                    let what = texts(key).0;
                    c.key(key, |c| {
                        c.forbidden(format!("may not remove or update {what}"));
                    });
                }
            }
            for key in new.keys().filter(|k| fixed(k) && !old.contains_key(*k)) {
                let what = texts(key).1;
                c.key(key, |c| c.forbidden(format!("may not add {what}")));
            }
        });
    });
}

fn images(new: &[Value], old: &[Value], c: &mut Causes) {
    if new.len() != old.len() {
        c.forbidden("pod updates may not add or remove containers");
        return;
    }
    for (i, one) in new.iter().enumerate() {
        c.index(i, |c| {
            crate::checks::present(one, "image", c);
            pod_checks::image_space(one, c);
        });
    }
}

/// Tells whether the other checks go on.
fn deadline(new: &Value, old: &Value, c: &mut Causes) -> bool {
    let field = "activeDeadlineSeconds";
    c.at(field, |c| match (i64_at(new, field), i64_at(old, field)) {
        (Some(n), _) if !(0..=SECONDS_MAX).contains(&n) => {
            c.invalid(
                &json!(n),
                format!("must be between 0 and {SECONDS_MAX}, inclusive"),
            );
            false
        }
        (Some(n), Some(o)) if n > o => {
            c.invalid(&json!(n), "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            c.invalid(
                &Value::Null,
                "must not update from a positive integer to nil value",
            );
            true
        }
        _ => true,
    })
}

fn tolerations(new: &Value, old: &Value, c: &mut Causes) {
    let bare = |t: &Value| {
        let mut t = t.clone();
        remove(&mut t, "tolerationSeconds");
        t
    };
    let all: Vec<Value> = list_at(new, "tolerations").iter().map(bare).collect();
    let kept = |t: &Value| all.iter().any(|n| same::values(n, &bare(t)));
    c.at("tolerations", |c| {
        if !list_at(old, "tolerations").iter().all(kept) {
            c.forbidden("existing toleration can not be modified except its tolerationSeconds");
            return;
        }
        for (i, t) in list_at(new, "tolerations").iter().enumerate() {
            c.index(i, |c| pod_checks::toleration(t, c));
        }
    });
}

fn gates(new: &Value, old: &Value, c: &mut Causes) {
    let known = same::names(old, "schedulingGates");
    for (i, name) in same::names(new, "schedulingGates").iter().enumerate() {
        if !known.contains(name) {
            c.at("schedulingGates", |c| {
                c.index(i, |c| {
                    c.at("name", |c| {
                        c.forbidden(format!(
                            "only deletion is allowed, but found new scheduling gate '{name}'"
                        ));
                    });
                });
            });
        }
    }
}

/// Pods with gates may become choosier about their node.
fn gated(new: &Value, old: &Value, wanted: &mut Value, c: &mut Causes) {
    let map = |s| map_at(s, "nodeSelector").cloned().unwrap_or_default();
    let (now, was) = (map(new), map(old));
    if now != was && !was.iter().all(|(k, v)| now.get(k) == Some(v)) {
        let shown = Value::Object(now);
        c.at("nodeSelector", |c| {
            c.invalid(
                &shown,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            );
        });
    }
    back(wanted, old, "nodeSelector");
    let path = format!("{REQUIRED}.nodeSelectorTerms");
    let (now, was) = (list_at(new, &path), list_at(old, &path));
    if !was.is_empty() {
        c.at(REQUIRED, |c| {
            c.at("nodeSelectorTerms", |c| terms(now, was, c))
        });
    }
    match at(old, "affinity.nodeAffinity") {
        Some(v) => set(wanted, "affinity.nodeAffinity", v.clone()),
        None => {
            remove(wanted, "affinity.nodeAffinity");
        }
    }
    let none = wanted["affinity"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty);
    if at(old, "affinity").is_none() && none {
        remove(wanted, "affinity");
    }
}

fn terms(now: &[Value], was: &[Value], c: &mut Causes) {
    if now.len() != was.len() {
        c.invalid(
            &json!(now),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        return;
    }
    for (i, (n, o)) in now.iter().zip(was).enumerate() {
        let grows = ["matchExpressions", "matchFields"].iter().all(|f| {
            let (n, o) = (list_at(n, f), list_at(o, f));
            n.len() >= o.len() && n.iter().zip(o).all(|(n, o)| same::values(n, o))
        });
        let empty = |t: &Value| {
            list_at(t, "matchExpressions").is_empty() && list_at(t, "matchFields").is_empty()
        };
        if !grows || (empty(o) && !empty(n)) {
            c.index(i, |c| {
                c.invalid(n, "only additions are allowed (no mutations or deletions)");
            });
        }
    }
}

/// An update of the ephemeral containers.
pub fn ephemeral_containers(obj: &Value, before: &Value, causes: &mut Causes) {
    let notes = map_at(obj, "metadata.annotations");
    if notes.is_some_and(|n| n.contains_key(annotations::MIRROR)) {
        causes.at_root(|c| c.forbidden("static pods do not support ephemeral containers"));
        return;
    }
    rules::full(obj, Some(before), causes);
    annotation_changes(obj, before, causes);
    let list = "spec.ephemeralContainers";
    causes.at("spec", |c| {
        c.at(pod_spec::LISTS[2], |c| {
            for old in list_at(before, list) {
                let name = str_at(old, "name");
                let mut all = list_at(obj, list).iter();
                match all.find(|n| str_at(n, "name") == name) {
                    None => c.forbidden(format!(
                        "existing ephemeral containers \"{name}\" may not be removed\n"
                    )),
                    Some(new) if !same::values(new, old) => c.forbidden(format!(
                        "existing ephemeral containers \"{name}\" may not be changed\n{}",
                        crate::diff::unified(old, new)
                    )),
                    Some(_) => {}
                }
            }
        });
    });
}
