//! What pods refer to, by node. Upstream: plugin/pkg/auth/authorizer/node/graph.go, pkg/api/pod.VisitPod*.

use std::collections::{HashMap, HashSet};

use client::{ChangeKind, Entry};
use machinery::object::{at, list_at, str_at};
use serde_json::Value;

use crate::feed::Step;

/// Names in the pod's own namespace.
#[derive(Debug, Default)]
pub struct References {
    pub account: Box<str>,
    pub secrets: HashSet<Box<str>>,
    pub config_maps: HashSet<Box<str>>,
    pub claims: HashSet<Box<str>>,
    pub resource_claims: HashSet<Box<str>>,
}

/// Pods of one node by namespace and name.
pub type NodePods = HashMap<(Box<str>, Box<str>), References>;

/// Pods by node.
pub type Pods = HashMap<Box<str>, NodePods>;

/// Applies a step of the feed of pods.
pub fn apply(pods: &mut Pods, step: Step<'_>) {
    match step {
        Step::Reset(all) => {
            pods.clear();
            all.iter().for_each(|e| put(pods, e));
        }
        Step::Change(c) => {
            // A pod never moves to another node, but a new one of the same name may.
            let old = c.before.as_ref().and_then(|b| node_of(b));
            let key = (c.entry.namespace.clone(), c.entry.name.clone());
            if let Some(found) = old.and_then(|n| pods.get_mut(n.as_str())) {
                found.remove(&key);
            }
            if c.kind != ChangeKind::Deleted {
                put(pods, &c.entry);
            }
        }
    }
}

fn node_of(entry: &Entry) -> Option<String> {
    let known = entry.fields.iter().find(|(k, _)| *k == "spec.nodeName");
    let node = match known {
        Some((_, v)) => v.to_string(),
        None => str_at(&entry.value().ok()?, "spec.nodeName").to_string(),
    };
    (!node.is_empty()).then_some(node)
}

fn put(pods: &mut Pods, entry: &Entry) {
    let Ok(pod) = entry.value() else {
        tracing::error!(object = %entry.key(), "stored object does not parse");
        return;
    };
    let node = str_at(&pod, "spec.nodeName");
    if node.is_empty() {
        return;
    }
    pods.entry(node.into()).or_default().insert(
        (entry.namespace.clone(), entry.name.clone()),
        references(&pod),
    );
}

/// What a pod refers to; a mirror pod refers to nothing.
pub fn references(pod: &Value) -> References {
    let mut r = References::default();
    let mirror = pod
        .pointer("/metadata/annotations/kubernetes.io~1config.mirror")
        .is_some();
    if mirror {
        return r;
    }
    r.account = str_at(pod, "spec.serviceAccountName").into();
    for secret in list_at(pod, "spec.imagePullSecrets") {
        add(&mut r.secrets, str_at(secret, "name"));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list_at(&pod["spec"], list) {
            container_references(container, &mut r);
        }
    }
    let name = machinery::object::name(pod);
    for volume in list_at(pod, "spec.volumes") {
        volume_references(volume, name, &mut r);
    }
    for claim in list_at(pod, "spec.resourceClaims") {
        add(&mut r.resource_claims, str_at(claim, "resourceClaimName"));
    }
    for status in list_at(pod, "status.resourceClaimStatuses") {
        add(&mut r.resource_claims, str_at(status, "resourceClaimName"));
    }
    add(
        &mut r.resource_claims,
        str_at(pod, "status.extendedResourceClaimStatus.resourceClaimName"),
    );
    r
}

fn container_references(container: &Value, r: &mut References) {
    for env in list_at(container, "env") {
        add(&mut r.secrets, str_at(env, "valueFrom.secretKeyRef.name"));
        add(
            &mut r.config_maps,
            str_at(env, "valueFrom.configMapKeyRef.name"),
        );
    }
    for source in list_at(container, "envFrom") {
        add(&mut r.secrets, str_at(source, "secretRef.name"));
        add(&mut r.config_maps, str_at(source, "configMapRef.name"));
    }
}

/// Volume sources and where in them the name of a secret stands.
const VOLUME_SECRETS: &[&str] = &[
    "secret.secretName",
    "azureFile.secretName",
    "cephfs.secretRef.name",
    "cinder.secretRef.name",
    "flexVolume.secretRef.name",
    "rbd.secretRef.name",
    "scaleIO.secretRef.name",
    "iscsi.secretRef.name",
    "storageos.secretRef.name",
    "csi.nodePublishSecretRef.name",
];

fn volume_references(volume: &Value, pod: &str, r: &mut References) {
    for path in VOLUME_SECRETS {
        add(&mut r.secrets, str_at(volume, path));
    }
    add(&mut r.config_maps, str_at(volume, "configMap.name"));
    add(
        &mut r.claims,
        str_at(volume, "persistentVolumeClaim.claimName"),
    );
    if at(volume, "ephemeral").is_some() {
        add(&mut r.claims, &format!("{pod}-{}", str_at(volume, "name")));
    }
    for source in list_at(volume, "projected.sources") {
        add(&mut r.secrets, str_at(source, "secret.name"));
        add(&mut r.config_maps, str_at(source, "configMap.name"));
    }
}

/// Secrets that a kubelet needs for a PersistentVolume, as (namespace, name).
pub fn volume_secrets(spec: &Value, claim_namespace: &str) -> Vec<(String, String)> {
    const REFERENCES: &[&str] = &[
        "cephfs.secretRef",
        "cinder.secretRef",
        "flexVolume.secretRef",
        "rbd.secretRef",
        "scaleIO.secretRef",
        "iscsi.secretRef",
        "storageos.secretRef",
        "csi.nodePublishSecretRef",
        "csi.nodeStageSecretRef",
        "csi.nodeExpandSecretRef",
    ];
    let mut out = Vec::new();
    let mut push = |namespace: &str, name: &str| {
        let namespace = if namespace.is_empty() {
            claim_namespace
        } else {
            namespace
        };
        if !name.is_empty() {
            out.push((namespace.to_string(), name.to_string()));
        }
    };
    for path in REFERENCES {
        if let Some(reference) = at(spec, path) {
            push(str_at(reference, "namespace"), str_at(reference, "name"));
        }
    }
    push(
        str_at(spec, "azureFile.secretNamespace"),
        str_at(spec, "azureFile.secretName"),
    );
    out
}

fn add(set: &mut HashSet<Box<str>>, name: &str) {
    if !name.is_empty() {
        set.insert(name.into());
    }
}
