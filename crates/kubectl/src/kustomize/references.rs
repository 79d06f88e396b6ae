//! References by name follow the names. Upstream: kustomize's nameReference transformer.

use serde_json::{Value, json};

use super::Resource;
use super::paths::{each, pod_spec};
use crate::object;

/// References of pods: the kind that is named, and where, below the pod's spec.
const OF_PODS: &[(&str, &str)] = &[
    ("ServiceAccount", "serviceAccountName"),
    ("ServiceAccount", "serviceAccount"),
    ("PriorityClass", "priorityClassName"),
    ("Secret", "imagePullSecrets[]/name"),
    ("Secret", "volumes[]/secret/secretName"),
    ("Secret", "volumes[]/projected/sources[]/secret/name"),
    ("ConfigMap", "volumes[]/configMap/name"),
    ("ConfigMap", "volumes[]/projected/sources[]/configMap/name"),
    (
        "PersistentVolumeClaim",
        "volumes[]/persistentVolumeClaim/claimName",
    ),
];

/// References of containers.
const OF_CONTAINERS: &[(&str, &str)] = &[
    ("ConfigMap", "env[]/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "envFrom[]/configMapRef/name"),
    ("Secret", "env[]/valueFrom/secretKeyRef/name"),
    ("Secret", "envFrom[]/secretRef/name"),
];

const CONTAINERS: &[&str] = &["containers[]", "initContainers[]", "ephemeralContainers[]"];

/// References of other kinds: the kind that has them, the kind that is named, and where.
const OF_OTHERS: &[(&str, &str, &str)] = &[
    ("ServiceAccount", "Secret", "secrets[]/name"),
    ("ServiceAccount", "Secret", "imagePullSecrets[]/name"),
    ("Ingress", "Secret", "spec/tls[]/secretName"),
    (
        "Ingress",
        "Service",
        "spec/rules[]/http/paths[]/backend/service/name",
    ),
    ("Ingress", "Service", "spec/defaultBackend/service/name"),
    ("Ingress", "IngressClass", "spec/ingressClassName"),
    ("StatefulSet", "Service", "spec/serviceName"),
    ("APIService", "Service", "spec/service/name"),
    (
        "MutatingWebhookConfiguration",
        "Service",
        "webhooks[]/clientConfig/service/name",
    ),
    (
        "ValidatingWebhookConfiguration",
        "Service",
        "webhooks[]/clientConfig/service/name",
    ),
    (
        "PersistentVolumeClaim",
        "PersistentVolume",
        "spec/volumeName",
    ),
    (
        "PersistentVolumeClaim",
        "StorageClass",
        "spec/storageClassName",
    ),
    ("PersistentVolume", "StorageClass", "spec/storageClassName"),
    (
        "StatefulSet",
        "StorageClass",
        "spec/volumeClaimTemplates[]/spec/storageClassName",
    ),
];

/// Objects that hold the kind of what they name beside its name.
const OF_ANY_KIND: &[&str] = &["roleRef", "spec/scaleTargetRef"];

/// A name that was, and the name and namespace that are.
struct Moved {
    kind: String,
    before: Vec<String>,
    name: String,
    namespace: String,
}

/// Lets all references name what is there now.
pub fn mend(all: &mut [Resource]) {
    let moved: Vec<Moved> = all
        .iter()
        .map(|r| Moved {
            kind: r.kind().to_string(),
            before: r.before.clone(),
            name: r.name().to_string(),
            namespace: object::namespace(&r.value).to_string(),
        })
        .collect();
    let find = |kind: &str, name: &str| {
        let same =
            |m: &&Moved| m.kind == kind && (m.name == name || m.before.iter().any(|b| b == name));
        moved.iter().find(same)
    };
    let follow = |kind: &str, at: &mut Value| {
        let found = at.as_str().and_then(|name| find(kind, name));
        if let Some(found) = found {
            *at = json!(found.name);
        }
    };
    for resource in all {
        let kind = resource.kind().to_string();
        let value = &mut resource.value;
        if let Some(spec) = pod_spec(&kind) {
            for (target, path) in OF_PODS {
                each(value, &format!("{spec}/{path}"), false, &mut |v| {
                    follow(target, v)
                });
            }
            for containers in CONTAINERS {
                for (target, path) in OF_CONTAINERS {
                    let path = format!("{spec}/{containers}/{path}");
                    each(value, &path, false, &mut |v| follow(target, v));
                }
            }
        }
        for (_, target, path) in OF_OTHERS.iter().filter(|(of, ..)| *of == kind) {
            each(value, path, false, &mut |v| follow(target, v));
        }
        for path in OF_ANY_KIND {
            each(value, path, false, &mut |v| {
                let target = object::text(v, "/kind").to_string();
                if let Some(name) = v.get_mut("name") {
                    follow(&target, name);
                }
            });
        }
        each(value, "subjects[]", false, &mut |subject| {
            let account = object::text(subject, "/kind") == "ServiceAccount";
            let name = subject["name"].as_str().unwrap_or_default();
            if let Some(found) = find("ServiceAccount", name).filter(|_| account) {
                subject["name"] = json!(found.name);
                if !found.namespace.is_empty() {
                    subject["namespace"] = json!(found.namespace);
                }
            }
        });
    }
}
