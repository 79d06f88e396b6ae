//! Tests over memory caches: what a server would hold, without one.

use std::sync::Arc;

use client::memory::MemoryReads;
use machinery::request::{Attributes, User};
use serde_json::{Value, json};

mod authenticators;
mod authorizers;
mod creators;

/// Every cache that this crate reads.
pub(crate) fn reads() -> Arc<MemoryReads> {
    let rbac = crate::RBAC_GROUP;
    Arc::new(MemoryReads::new(&[
        (rbac, "roles"),
        (rbac, "clusterroles"),
        (rbac, "rolebindings"),
        (rbac, "clusterrolebindings"),
        ("", "pods"),
        ("", "nodes"),
        ("", "secrets"),
        ("", "serviceaccounts"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
    ]))
}

pub(crate) fn put(reads: &MemoryReads, group: &'static str, resource: &'static str, o: Value) {
    reads
        .memory(group, resource)
        .expect("a cache")
        .apply(o)
        .expect("an object");
}

/// A resource request, `"verb group/resource/sub namespace/name"`; `-` stands for nothing.
pub(crate) fn attributes(user: &User, text: &str) -> Attributes {
    let none = |s: &str| {
        if s == "-" {
            String::new()
        } else {
            s.to_string()
        }
    };
    let parts: Vec<&str> = text.split(' ').collect();
    let resource: Vec<&str> = parts[1].split('/').collect();
    let object: Vec<&str> = parts[2].split('/').collect();
    Attributes {
        user: user.clone(),
        verb: parts[0].into(),
        group: none(resource[0]),
        resource: resource[1].into(),
        subresource: resource
            .get(2)
            .map(|s| (*s).to_string())
            .unwrap_or_default(),
        namespace: none(object[0]),
        name: none(object[1]),
        is_resource: true,
        field_selector: parts.get(3).map(|s| (*s).to_string()),
        ..Attributes::default()
    }
}

pub(crate) fn with_bootstrap() -> Arc<MemoryReads> {
    let reads = reads();
    for object in crate::bootstrap::objects() {
        let resource = match object["kind"].as_str().expect("a kind") {
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            "Role" => "roles",
            _ => "rolebindings",
        };
        put(&reads, crate::RBAC_GROUP, resource, object);
    }
    reads
}

pub(crate) fn role_binding(kind: &str, ns: &str, name: &str, role: &str, subject: Value) -> Value {
    let (role_kind, role) = role.split_once('/').expect("Kind/name");
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": ns},
        "roleRef": {"apiGroup": crate::RBAC_GROUP, "kind": role_kind, "name": role},
        "subjects": [subject],
    })
}
