//! Which volume suits a claim, and whether one can be made for it. Upstream: component-helpers
//! storage/volume FindMatchingVolume, and the binder's checkVolumeProvisions and hasEnoughCapacity.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim, TopologySelectorTerm};
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::quantity::Quantity;
use api::storage::v1::CSIStorageCapacity;

use super::{NO_SPACE, NO_VOLUME};
use crate::labels::{self, Labels};
use crate::node::NodeInfo;
use crate::world::World;

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

fn amount(text: &Text) -> Quantity {
    // Stored objects have been validated; what does not parse counts as nothing.
    Quantity::parse(&text.0).unwrap_or(Quantity::ZERO)
}

fn storage(list: Option<&BTreeMap<String, Text>>) -> Quantity {
    let asked = list.and_then(|l| l.get("storage"));
    asked.map_or(Quantity::ZERO, amount)
}

/// How much storage a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref()))
}

/// The name of the smallest volume that suits a claim; one that names the claim comes first.
pub fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    usable: impl Fn(&PersistentVolume) -> bool,
) -> Option<String> {
    let suits = |v: &&Arc<PersistentVolume>| suits(claim, v) && usable(v);
    let mut best: Option<(bool, Quantity, String)> = None;
    for volume in volumes.iter().filter(suits) {
        let spec = volume.spec.as_ref()?;
        let size = storage(spec.capacity.as_ref());
        let candidate = (
            spec.claim_ref.is_none(),
            size,
            volume.metadata.name.clone().unwrap_or_default(),
        );
        if best.as_ref().is_none_or(|b| candidate < *b) {
            best = Some(candidate);
        }
    }
    best.map(|(_, _, name)| name)
}

fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wants), Some(has)) = (&claim.spec, &volume.spec) else {
        return false;
    };
    let mode = |m: &Option<String>| m.clone().unwrap_or_else(|| "Filesystem".into());
    let class = |c: &Option<String>| c.clone().unwrap_or_default();
    let is_for_claim = match &has.claim_ref {
        Some(r) => {
            r.name == claim.metadata.name
                && r.namespace == claim.metadata.namespace
                && r.uid
                    .as_ref()
                    .is_none_or(|u| u.is_empty() || Some(u) == claim.metadata.uid.as_ref())
        }
        None => volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available"),
    };
    let labels: Labels = volume
        .metadata
        .labels
        .clone()
        .into_iter()
        .flatten()
        .collect();
    let selector = match &wants.selector {
        None => true,
        Some(s) => labels::selector(s).is_some_and(|s| labels.satisfy(&s)),
    };
    let modes = has.access_modes.clone().unwrap_or_default();
    let mut wanted_modes = wants.access_modes.iter().flatten();
    is_for_claim
        && selector
        && volume.metadata.deletion_timestamp.is_none()
        && mode(&wants.volume_mode) == mode(&has.volume_mode)
        && class(&wants.storage_class_name) == class(&has.storage_class_name)
        && class(&wants.volume_attributes_class_name) == class(&has.volume_attributes_class_name)
        && wanted_modes.all(|m| modes.contains(m))
        && storage(has.capacity.as_ref()) >= requested(claim)
}

/// Whether the claim's class can make a volume for a node.
pub fn can_provision(
    world: &World,
    claim: &PersistentVolumeClaim,
    node: &NodeInfo,
) -> Result<(), &'static str> {
    let name = claim
        .spec
        .as_ref()
        .and_then(|s| s.storage_class_name.as_deref());
    let class = name
        .and_then(|n| world.classes.get("", n))
        .ok_or(NO_VOLUME)?;
    if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER {
        return Err(NO_VOLUME);
    }
    let allowed = class.allowed_topologies.as_deref().unwrap_or_default();
    if !allowed.is_empty() && !allowed.iter().any(|t| allows(t, &node.node.labels)) {
        return Err(NO_VOLUME);
    }
    let driver = world.csi_drivers.get("", &class.provisioner);
    if driver.is_none_or(|d| d.spec.storage_capacity != Some(true)) {
        return Ok(());
    }
    let size = requested(claim);
    let capacities = world.csi_capacities.list(None);
    let mut of_class = capacities
        .iter()
        .filter(|c| Some(c.storage_class_name.as_str()) == name);
    if of_class.any(|c| enough(c, size, &node.node.labels)) {
        return Ok(());
    }
    Err(NO_SPACE)
}

fn allows(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    let mut all = term.match_label_expressions.iter().flatten();
    all.all(|e| {
        let value = labels.get(&e.key);
        value.is_some_and(|v| e.values.iter().any(|w| w == v))
    })
}

fn enough(capacity: &CSIStorageCapacity, size: Quantity, labels: &Labels) -> bool {
    let limit = capacity
        .maximum_volume_size
        .as_ref()
        .or(capacity.capacity.as_ref());
    let topology = capacity.node_topology.as_ref().and_then(labels::selector);
    limit.is_some_and(|l| amount(l) >= size) && topology.is_some_and(|t| labels.satisfy(&t))
}
