//! VolumeZone: a volume that says in its labels where it is can be used there only.

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::world::World;

use super::volume_restrictions::uses;

pub struct VolumeZone;

const ZONE_LABELS: &[&str] = &[
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// Label and allowed values, volume by volume.
struct Judge(Vec<(&'static str, Vec<String>)>);

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::StorageClass, event::ADD),
            (
                Watched::Node,
                event::ADD | event::UPDATE_NODE_LABEL | event::UPDATE_NODE_TAINT,
            ),
            (Watched::PersistentVolumeClaim, event::ADD | event::UPDATE),
            (Watched::PersistentVolume, event::ADD | event::UPDATE),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        match (event.watched, event.entry()) {
            (Watched::PersistentVolumeClaim, Some(claim)) if !uses(pod, claim) => Hint::Skip,
            _ => Hint::Queue,
        }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let (pod, world) = (cycle.pod, cycle.world);
        let mut wanted = Vec::new();
        for name in pod.claims() {
            let Some(claim) = world.claims.get(&pod.key.namespace, name) else {
                let text = format!("persistentvolumeclaim {name:?} not found");
                return Err(Rejection::unresolvable(text));
            };
            let spec = claim.spec.clone().unwrap_or_default();
            let Some(volume) = spec.volume_name.filter(|v| !v.is_empty()) else {
                unbound(world, spec.storage_class_name.as_deref().unwrap_or(""))?;
                continue;
            };
            let Some(volume) = world.volumes.get("", &volume) else {
                let text = format!("persistentvolume {volume:?} not found");
                return Err(Rejection::unresolvable(text));
            };
            let labels = volume.metadata.labels.clone().unwrap_or_default();
            for label in ZONE_LABELS {
                if let Some(values) = labels.get(*label) {
                    let values = values.split("__").map(String::from).collect();
                    wanted.push((*label, values));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(Judge(wanted))))
    }
}

/// A claim without a volume is fine where its class waits for the pod.
fn unbound(world: &World, class: &str) -> Result<(), Rejection> {
    let bad = |text: String| Err(Rejection::unresolvable(text));
    if class.is_empty() {
        return bad("PersistentVolumeClaim had no pv name and storageClass name".into());
    }
    let Some(object) = world.classes.get("", class) else {
        return bad(format!("storageclass.storage.k8s.io {class:?} not found"));
    };
    match object.volume_binding_mode.as_deref() {
        None => bad(format!(
            "VolumeBindingMode not set for StorageClass {class:?}"
        )),
        Some("WaitForFirstConsumer") => Ok(()),
        Some(_) => bad("PersistentVolume had no name".into()),
    }
}

impl Filter for Judge {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let labels = &node.node.labels;
        if ZONE_LABELS.iter().all(|l| labels.get(l).is_none()) {
            return Ok(());
        }
        let fits = |(label, values): &(&'static str, Vec<String>)| {
            let here = zone_label(labels, label);
            here.is_some_and(|v| values.iter().any(|w| w == v))
        };
        if self.0.iter().all(fits) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            "node(s) had no available volume zone",
        ))
    }
}

/// A node's value of a zone label; the beta name and today's stand for each other.
fn zone_label<'a>(labels: &'a crate::labels::Labels, label: &str) -> Option<&'a str> {
    labels.get(label).or_else(|| {
        let at = ZONE_LABELS.iter().position(|l| *l == label)?;
        labels.get(ZONE_LABELS[(at + 2) % 4])
    })
}
