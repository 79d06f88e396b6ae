//! Values at paths with `[]` for every item of a list.

use serde_json::{Map, Value};

/// Calls `change` for each value at a path such as `spec/containers[]/image`. Where `create` says so, missing
/// maps on the way are made, the last one empty.
pub fn each(value: &mut Value, path: &str, create: bool, change: &mut dyn FnMut(&mut Value)) {
    let (step, rest) = match path.split_once('/') {
        Some((step, rest)) => (step, Some(rest)),
        None => (path, None),
    };
    let (name, list) = match step.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (step, false),
    };
    let Value::Object(map) = value else { return };
    if create && !list && !map.contains_key(name) {
        map.insert(name.to_string(), Value::Object(Map::new()));
    }
    let Some(below) = map.get_mut(name) else {
        return;
    };
    let mut go = |v: &mut Value| match rest {
        Some(rest) => each(v, rest, create, change),
        None => change(v),
    };
    if list {
        below.as_array_mut().into_iter().flatten().for_each(go);
    } else {
        go(below);
    }
}

/// Where a kind has the spec of a pod.
pub fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("spec"),
        "CronJob" => Some("spec/jobTemplate/spec/template/spec"),
        "PodTemplate" => Some("template/spec"),
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => Some("spec/template/spec"),
        _ => None,
    }
}

/// The metadata of templates within a kind.
pub fn templates(kind: &str) -> &'static [&'static str] {
    match kind {
        "CronJob" => &[
            "spec/jobTemplate/metadata",
            "spec/jobTemplate/spec/template/metadata",
        ],
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => &["spec/template/metadata"],
        _ => &[],
    }
}

/// The selectors of a kind, and whether they are made where they are missing.
pub fn selectors(kind: &str) -> &'static [(&'static str, bool)] {
    match kind {
        "Service" | "ReplicationController" => &[("spec/selector", true)],
        "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet" => {
            &[("spec/selector/matchLabels", true)]
        }
        "Job" | "PodDisruptionBudget" => &[("spec/selector/matchLabels", false)],
        "CronJob" => &[("spec/jobTemplate/spec/selector/matchLabels", false)],
        "NetworkPolicy" => &[
            ("spec/podSelector/matchLabels", false),
            ("spec/ingress[]/from[]/podSelector/matchLabels", false),
            ("spec/egress[]/to[]/podSelector/matchLabels", false),
        ],
        _ => &[],
    }
}

/// Kinds without a namespace.
pub const CLUSTER: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "ClusterTrustBundle",
    "CustomResourceDefinition",
    "DeviceClass",
    "FlowSchema",
    "IPAddress",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "ResourceSlice",
    "RuntimeClass",
    "ServiceCIDR",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    "VolumeAttributesClass",
];
