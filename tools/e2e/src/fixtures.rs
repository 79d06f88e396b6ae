//! Objects that many twins make, as upstream's tests make them.

use serde_json::{Value, json};

use crate::images::AGNHOST_IMAGE;

/// The security context that the restricted level wants; harmless elsewhere.
pub fn confined() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

/// A pod with one container.
pub fn pod(name: &str, labels: Value, container: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}})
}

/// A container of agnhost with arguments.
pub fn agnhost(name: &str, args: &[&str]) -> Value {
    json!({"name": name, "image": AGNHOST_IMAGE, "args": args})
}

/// The template of a workload's pods.
pub fn template(labels: &Value, container: Value) -> Value {
    json!({"metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}})
}

/// A workload of `apps/v1` whose labels, selector and template labels are the same.
pub fn workload(kind: &str, name: &str, replicas: u32, labels: &Value, container: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": template(labels, container)}})
}

/// A Deployment of one container.
pub fn deployment(name: &str, replicas: u32, labels: Value, container: &str, image: &str) -> Value {
    let container = json!({"name": container, "image": image});
    workload("Deployment", name, replicas, &labels, container)
}

/// A ReplicaSet of one container.
pub fn replica_set(
    name: &str,
    replicas: u32,
    labels: Value,
    container: &str,
    image: &str,
) -> Value {
    let container = json!({"name": container, "image": image});
    workload("ReplicaSet", name, replicas, &labels, container)
}

/// A ReplicationController that says only its template's labels.
pub fn replication_controller(name: &str, replicas: u32, labels: Value, container: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": template(&labels, container)}})
}

/// A DELETE's options that name a propagation policy.
pub fn propagation(policy: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy})
}

/// A DELETE's options that name a grace period.
pub fn grace(seconds: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds})
}
