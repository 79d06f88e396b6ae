//! Which volume suits a claim. Upstream: component-helpers/storage/volume/pv_helpers.go.

use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Typed;
use api::quantity::Quantity;

use crate::common::object::Object;
use crate::common::selector;

const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";

fn amount(map: Option<&std::collections::BTreeMap<String, Typed>>) -> Quantity {
    let text = map
        .and_then(|m| m.get("storage"))
        .map_or("0", |q| q.0.as_str());
    Quantity::parse(text).unwrap_or(Quantity::ZERO)
}

/// What a claim asks for.
pub fn request(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    amount(resources.and_then(|r| r.requests.as_ref()))
}

/// What a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    amount(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()))
}

/// A claim's class; `None` where it names none at all.
pub fn claim_class(claim: &PersistentVolumeClaim) -> Option<String> {
    if let Some(class) = claim.annotations().get(CLASS_BETA) {
        return Some(class.clone());
    }
    claim.spec.as_ref()?.storage_class_name.clone()
}

fn volume_class(volume: &PersistentVolume) -> String {
    if let Some(class) = volume.annotations().get(CLASS_BETA) {
        return class.clone();
    }
    let spec = volume.spec.as_ref();
    spec.and_then(|s| s.storage_class_name.clone())
        .unwrap_or_default()
}

/// Whether a volume names this claim.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(r) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else {
        return false;
    };
    let uid = r.uid.as_deref().unwrap_or("");
    r.name.as_deref() == Some(claim.name())
        && r.namespace.as_deref() == Some(claim.namespace())
        && (uid.is_empty() || uid == claim.uid())
}

fn mode(text: Option<&String>) -> &str {
    text.map_or("Filesystem", String::as_str)
}

/// Whether both are block devices or both file systems.
pub fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let v = volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    let c = claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    mode(v) == mode(c)
}

fn access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = volume
        .spec
        .as_ref()
        .and_then(|s| s.access_modes.clone())
        .unwrap_or_default();
    let wants = claim
        .spec
        .iter()
        .flat_map(|s| s.access_modes.iter().flatten());
    wants.into_iter().all(|w| has.contains(w))
}

fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let v = volume
        .spec
        .as_ref()
        .and_then(|s| s.volume_attributes_class_name.clone());
    let c = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_attributes_class_name.clone());
    v.unwrap_or_default() == c.unwrap_or_default()
}

/// Why a volume that a claim names cannot be its.
pub fn problem(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let class = claim_class(claim).unwrap_or_default();
    if volume.deleting() {
        return Some(format!(
            "the volume is marked for deletion {:?}",
            volume.name()
        ));
    }
    let checks = [
        (
            capacity(volume) < request(claim),
            "requested PV is too small",
        ),
        (
            volume_class(volume) != class,
            "storageClassName does not match",
        ),
        (
            !same_attributes(volume, claim),
            "volumeAttributesClassName does not match",
        ),
        (!same_mode(volume, claim), "incompatible volumeMode"),
        (!access(volume, claim), "incompatible accessMode"),
    ];
    let failed = checks.iter().find(|(failed, _)| *failed);
    failed.map(|(_, why)| (*why).to_string())
}

/// The volume for a claim: one that names it, or else the smallest that suits. `delayed` claims only take
/// volumes that name them: the scheduler chooses for them.
pub fn find(
    volumes: &[Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
    delayed: bool,
) -> Option<Arc<PersistentVolume>> {
    let asked = request(claim);
    let usable = |v: &&Arc<PersistentVolume>| {
        same_mode(v, claim) && access(v, claim) && capacity(v) >= asked
    };
    if let Some(bound) = volumes.iter().filter(usable).find(|v| is_for(v, claim)) {
        return Some(bound.clone());
    }
    if delayed {
        return None;
    }
    let class = claim_class(claim).unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let wanted = match wanted {
        None => None,
        Some(typed) => Some(selector::parse(typed)?),
    };
    let free = |v: &&Arc<PersistentVolume>| {
        let spec = v.spec.as_ref();
        let phase = v.status.as_ref().and_then(|s| s.phase.as_deref());
        spec.is_some_and(|s| s.claim_ref.is_none())
            && phase == Some("Available")
            && !v.deleting()
            && same_attributes(v, claim)
            && volume_class(v) == class
            && wanted
                .as_ref()
                .is_none_or(|s| selector::matches(s, v.labels()))
    };
    let modes = |v: &PersistentVolume| {
        let spec = v.spec.as_ref();
        spec.and_then(|s| s.access_modes.as_ref())
            .map_or(0, Vec::len)
    };
    let suitable = volumes.iter().filter(usable).filter(free);
    suitable
        .min_by_key(|v| (modes(v), capacity(v), v.name().to_string()))
        .cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, more: &Value) -> Arc<PersistentVolume> {
        let mut v = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]},
            "status": {"phase": "Available"}});
        json_patch::merge(&mut v, more);
        Arc::new(serde_json::from_value(v).unwrap())
    }

    fn claim(more: &Value) -> PersistentVolumeClaim {
        let mut v = json!({"metadata": {"name": "c", "namespace": "d", "uid": "u"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
        json_patch::merge(&mut v, more);
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn the_smallest_that_suits_wins_unless_one_names_the_claim() {
        let all = [
            volume("small", "1Gi", &json!({})),
            volume("big", "10Gi", &json!({})),
            volume("right", "3Gi", &json!({})),
            volume(
                "taken",
                "2Gi",
                &json!({"spec": {"claimRef": {"name": "x", "namespace": "d"}}}),
            ),
            volume(
                "classy",
                "2Gi",
                &json!({"spec": {"storageClassName": "fast"}}),
            ),
            volume("block", "2Gi", &json!({"spec": {"volumeMode": "Block"}})),
        ];
        let name = |c: &PersistentVolumeClaim, delayed| {
            find(&all, c, delayed).map(|v| v.name().to_string())
        };
        assert_eq!(name(&claim(&json!({})), false).as_deref(), Some("right"));
        assert_eq!(name(&claim(&json!({})), true), None);
        let fast = claim(&json!({"spec": {"storageClassName": "fast"}}));
        assert_eq!(name(&fast, false).as_deref(), Some("classy"));
        let x = claim(&json!({"metadata": {"name": "x"}}));
        assert_eq!(name(&x, true).as_deref(), Some("taken"));
        let many = claim(&json!({"spec": {"accessModes": ["ReadWriteMany"]}}));
        assert_eq!(name(&many, false), None);
        assert_eq!(
            problem(&all[0], &claim(&json!({}))).as_deref(),
            Some("requested PV is too small")
        );
        assert_eq!(
            problem(&all[5], &claim(&json!({}))).as_deref(),
            Some("incompatible volumeMode")
        );
    }
}
