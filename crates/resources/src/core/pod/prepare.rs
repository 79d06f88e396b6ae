//! What the server makes of a pod before it judges it. Upstream: podStrategy, podStatusStrategy,
//! podEphemeralContainersStrategy, podResizeStrategy; validation-pod §7.

use machinery::WriteContext;
use machinery::object::{at, at_mut, i64_at, list_at, map_at, remove, set, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use serde_json::{Value, json};

use super::super::pod_spec::{LISTS, each};
use super::qos;
use crate::time::rfc3339;

/// Where AppArmor profiles stood before there was a field.
pub const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Annotations that held init containers before there were fields.
const OLD_ANNOTATIONS: &[&str] = &[
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-container-statuses",
    "pod.beta.kubernetes.io/init-container-statuses",
];

/// Old annotations of a pod or template go.
pub fn drop_old_annotations(pod: &mut Value) {
    if let Some(Value::Object(map)) = at_mut(pod, "metadata.annotations") {
        map.retain(|k, _| !OLD_ANNOTATIONS.contains(&k.as_str()));
    }
}

/// status.podIP and status.podIPs say the same.
pub fn addresses(pod: &mut Value) {
    let one = str_at(pod, "status.podIP").to_string();
    let first = list_at(pod, "status.podIPs")
        .first()
        .map(|ip| str_at(ip, "ip").to_string());
    match first {
        Some(first) if one.is_empty() => set(pod, "status.podIP", json!(first)),
        Some(first) if first == one => {}
        _ if one.is_empty() => {}
        _ => set(pod, "status.podIPs", json!([{"ip": one}])),
    }
}

/// A new pod.
pub fn create(pod: &mut Value, cx: &WriteContext) {
    let class = qos::class(pod.get("spec").unwrap_or(&Value::Null));
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !list_at(pod, "spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": rfc3339(cx.now),
        }]);
    }
    set(pod, "status", status);
    merge_label_keys(pod);
    apparmor_fields(pod);
}

/// A pod through `/status`.
pub fn status(pod: &mut Value, before: &Value) {
    freeze_all_but_status(pod, before);
    match at(before, "metadata.ownerReferences") {
        Some(v) => set(pod, "metadata.ownerReferences", v.clone()),
        None => {
            remove(pod, "metadata.ownerReferences");
        }
    }
    if pod.get("status").is_none() {
        set(pod, "status", json!({}));
    }
    let class = str_at(before, "status.qosClass");
    if str_at(pod, "status.qosClass").is_empty() && !class.is_empty() {
        set(pod, "status.qosClass", json!(class));
    }
    if let Some(status) = pod.get_mut("status") {
        observed(status, before.get("status").unwrap_or(&Value::Null));
    }
    observed_conditions(pod, before);
}

/// An observedGeneration that is missing stays as it was.
fn observed(obj: &mut Value, before: &Value) {
    let old = i64_at(before, "observedGeneration").unwrap_or(0);
    if i64_at(obj, "observedGeneration").unwrap_or(0) == 0 && old != 0 {
        set(obj, "observedGeneration", json!(old));
    }
}

/// Each condition takes that of the next old condition of its type.
fn observed_conditions(pod: &mut Value, before: &Value) {
    let mut old: Vec<&Value> = list_at(before, "status.conditions").iter().collect();
    let Some(Value::Array(new)) = at_mut(pod, "status.conditions") else {
        return;
    };
    for c in new {
        let kind = str_at(c, "type").to_string();
        if let Some(i) = old.iter().position(|o| str_at(o, "type") == kind) {
            observed(c, old.remove(i));
        }
    }
}

/// Everything but the ephemeral containers stays.
pub fn ephemeral_containers(pod: &mut Value, before: &Value) {
    let wanted = at(pod, "spec.ephemeralContainers").cloned();
    freeze(pod, before);
    match wanted {
        Some(list) => set(pod, "spec.ephemeralContainers", list),
        None => {
            remove(pod, "spec.ephemeralContainers");
        }
    }
}

/// Everything but resources and resize policies stays.
pub fn resize(pod: &mut Value, before: &Value) {
    let lists = ["containers", "initContainers"];
    let count = |obj: &Value, list: &str| list_at(obj, &format!("spec.{list}")).len();
    if lists.iter().any(|l| count(pod, l) != count(before, l)) {
        // Validation reports it.
        return;
    }
    let wanted = pod.clone();
    freeze(pod, before);
    for list in lists {
        let path = format!("spec.{list}");
        let new = list_at(&wanted, &path);
        let same = new
            .iter()
            .zip(list_at(before, &path))
            .all(|(n, o)| str_at(n, "name") == str_at(o, "name"));
        if new.is_empty() {
            continue;
        }
        if !same {
            set(pod, &path, json!(new));
            continue;
        }
        let Some(Value::Array(all)) = at_mut(pod, &path) else {
            continue;
        };
        for (container, wanted) in all.iter_mut().zip(new) {
            keep(container, wanted, "resources");
            keep(container, wanted, "resizePolicy");
        }
    }
    match at(&wanted, "spec.resources") {
        Some(v) => set(pod, "spec.resources", v.clone()),
        None => {
            remove(pod, "spec.resources");
        }
    }
}

/// Spec, status and what clients write of the metadata become those of `before`.
fn freeze(pod: &mut Value, before: &Value) {
    keep(pod, before, "spec");
    keep(pod, before, "status");
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let path = format!("metadata.{field}");
        match at(before, &path) {
            Some(v) => set(pod, &path, v.clone()),
            None => {
                remove(pod, &path);
            }
        }
    }
}

/// matchLabelKeys and mismatchLabelKeys become part of their selectors.
fn merge_label_keys(pod: &mut Value) {
    let labels = map_at(pod, "metadata.labels").cloned().unwrap_or_default();
    let merge = |term: &mut Value| {
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            if !term.get("labelSelector").is_some_and(Value::is_object) {
                continue;
            }
            let keys = list_at(term, field).to_vec();
            for key in keys.iter().filter_map(Value::as_str) {
                let Some(value) = labels.get(key) else {
                    continue;
                };
                let mut all = list_at(term, "labelSelector.matchExpressions").to_vec();
                all.push(json!({"key": key, "operator": operator, "values": [value]}));
                set(term, "labelSelector.matchExpressions", json!(all));
            }
        }
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = at_mut(pod, &format!("spec.affinity.{kind}")) else {
            continue;
        };
        each(
            affinity,
            "preferredDuringSchedulingIgnoredDuringExecution",
            |w| {
                if let Some(term) = w.get_mut("podAffinityTerm") {
                    merge(term);
                }
            },
        );
        each(
            affinity,
            "requiredDuringSchedulingIgnoredDuringExecution",
            merge,
        );
    }
    if let Some(spec) = pod.get_mut("spec") {
        each(spec, "topologySpreadConstraints", merge);
    }
}

/// AppArmor annotations become fields.
fn apparmor_fields(pod: &mut Value) {
    let annotations = map_at(pod, "metadata.annotations")
        .cloned()
        .unwrap_or_default();
    let of_pod = at(pod, "spec.securityContext.appArmorProfile").cloned();
    if str_at(pod, "spec.os.name") == "windows" {
        return;
    }
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    for list in LISTS {
        each(spec, list, |container| {
            let key = format!("{APPARMOR}{}", str_at(container, "name"));
            let Some(text) = annotations.get(&key).and_then(Value::as_str) else {
                return;
            };
            if at(container, "securityContext.appArmorProfile").is_some() {
                return;
            }
            if let Some(profile) = apparmor_profile(text)
                && Some(&profile) != of_pod.as_ref()
            {
                set(container, "securityContext.appArmorProfile", profile);
            }
        });
    }
}

/// The field for an annotation's text.
pub fn apparmor_profile(text: &str) -> Option<Value> {
    match text {
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        "unconfined" => Some(json!({"type": "Unconfined"})),
        other => {
            let name = other.strip_prefix("localhost/").filter(|n| !n.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": name}))
        }
    }
}
