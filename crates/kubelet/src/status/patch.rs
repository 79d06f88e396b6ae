//! The smallest strategic merge patch between two statuses. Upstream: pkg/kubelet/status PatchPodStatus.

use api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

use super::conditions::OWNED;

/// Fields that the kubelet writes; others are left to their owners.
const FIELDS: &[&str] = &[
    "conditions",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "podIPs",
    "qosClass",
    "reason",
    "startTime",
];

/// A patch that turns `old` into `new`, conditions of others untouched; `None` where nothing differs.
pub fn status_patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (as_map(old), as_map(new));
    let mut changes = Map::new();
    for key in FIELDS {
        let (before, after) = (old.get(*key), new.get(*key));
        if before == after {
            continue;
        }
        let change = match *key {
            "conditions" => match conditions(before, after) {
                Some(change) => change,
                None => continue,
            },
            // Merged by ip: vanished addresses must go.
            "podIPs" | "hostIPs" => replaced_list(after),
            _ => after.cloned().unwrap_or(Value::Null),
        };
        changes.insert((*key).to_string(), change);
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

fn as_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn replaced_list(after: Option<&Value>) -> Value {
    let mut list = after.and_then(Value::as_array).cloned().unwrap_or_default();
    list.push(json!({"$patch": "replace"}));
    Value::Array(list)
}

fn conditions(before: Option<&Value>, after: Option<&Value>) -> Option<Value> {
    let list = |v: Option<&Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
    let (before, after) = (list(before), list(after));
    let find = |all: &[Value], kind: &Value| all.iter().find(|c| c["type"] == *kind).cloned();
    let mut out: Vec<Value> = Vec::new();
    for c in &after {
        let old = find(&before, &c["type"]);
        if old.as_ref() == Some(c) {
            continue;
        }
        let kind = c["type"].as_str().unwrap_or_default();
        let ours = OWNED.contains(&kind) || kind == "DisruptionTarget";
        // A condition of others that differs was changed by them since.
        if !ours {
            continue;
        }
        let mut c = c.clone();
        if let (Value::Object(c), Some(Value::Object(old))) = (&mut c, old) {
            let gone = old.keys().filter(|k| !c.contains_key(*k));
            let gone: Vec<String> = gone.cloned().collect();
            c.extend(gone.into_iter().map(|k| (k, Value::Null)));
        }
        out.push(c);
    }
    for c in &before {
        let kind = c["type"].as_str().unwrap_or_default();
        if OWNED.contains(&kind) && find(&after, &c["type"]).is_none() {
            out.push(json!({"type": kind, "$patch": "delete"}));
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
