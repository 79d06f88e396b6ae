//! Warnings about persistent volumes. Upstream: pkg/api/persistentvolume.

use machinery::object::{at, list_at, map_at, str_at};
use serde_json::Value;

use super::{BETA_CLASS, BETA_OPTIONS};
use crate::checks;

/// Everything.
pub fn all(obj: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let annotations = map_at(obj, "metadata.annotations");
    for (key, text) in [
        (
            BETA_CLASS,
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            BETA_OPTIONS,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotations.is_some_and(|a| a.contains_key(key)) {
            out.push(format!("metadata.annotations[{key}]: {text}"));
        }
    }
    if str_at(obj, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let terms = list_at(obj, "spec.nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in terms.iter().enumerate() {
        for (j, e) in list_at(term, "matchExpressions").iter().enumerate() {
            let key = str_at(e, "key");
            if let Some(text) = checks::deprecated_label(key) {
                out.push(format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}].matchExpressions[{j}].key: {key} is {text}"));
            }
        }
    }
    for (field, shown, text) in [
        (
            "cephfs",
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "scaleIO",
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            "rbd",
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ] {
        if at(&obj["spec"], field).is_some() {
            out.push(format!("spec.{shown}: {text}"));
        }
    }
    out
}
