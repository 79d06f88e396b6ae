//! NodeVolumeLimits: a CSI driver says in CSINode how many of its volumes a node can attach.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{self, Actions, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::world::World;

use super::volume_restrictions::uses;

pub struct NodeVolumeLimits;

/// Driver and name of a volume that is unique for the driver.
type Attached = (String, String);

struct Judge<'a> {
    world: &'a World,
    wanted: BTreeSet<Attached>,
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::CsiNode, event::ADD | event::UPDATE),
            (Watched::AssignedPod, event::DELETE),
            (Watched::PersistentVolumeClaim, event::ADD),
            (Watched::VolumeAttachment, event::DELETE),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match (event.watched, event.object) {
            (_, Object::Pod(Some(gone), _)) => gone.claims().next().is_some(),
            (Watched::PersistentVolumeClaim, _) => event.entry().is_some_and(|e| uses(pod, e)),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let (pod, world) = (cycle.pod, cycle.world);
        let mut wanted = BTreeSet::new();
        for name in pod.claims() {
            match attached(world, &pod.key.namespace, name) {
                Ok(volume) => wanted.extend(volume),
                Err(why) => {
                    let text = format!("looking up PVC {}/{name}: {why}", pod.key.namespace);
                    return Err(Rejection::unresolvable(text));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(Judge { world, wanted })))
    }
}

/// The CSI volume behind a claim: the one it is bound to, or the one its class will make.
fn attached(world: &World, namespace: &str, name: &str) -> Result<Option<Attached>, String> {
    let claim = world.claims.get(namespace, name);
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    let spec = claim.spec.clone().unwrap_or_default();
    let bound = spec.volume_name.filter(|v| !v.is_empty());
    if let Some(volume) = bound.and_then(|v| world.volumes.get("", &v)) {
        let csi = volume.spec.as_ref().and_then(|s| s.csi.as_ref());
        return Ok(csi.map(|c| (c.driver.clone(), c.volume_handle.clone())));
    }
    let class = spec.storage_class_name.unwrap_or_default();
    let class = world.classes.get("", &class);
    Ok(class.map(|c| (c.provisioner.clone(), format!("{namespace}/{name}"))))
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(csi) = self.world.csi_nodes.get("", node.name()) else {
            return Ok(());
        };
        let drivers = csi.spec.drivers.iter();
        let limits: BTreeMap<&str, i32> = drivers
            .filter_map(|d| Some((d.name.as_str(), d.allocatable.as_ref()?.count?)))
            .collect();
        if limits.is_empty() {
            return Ok(());
        }
        let mut all = self.there(node);
        let new: Vec<Attached> = self.wanted.difference(&all).cloned().collect();
        all.extend(new.iter().cloned());
        let over = |(driver, _): &Attached| {
            let count = all.iter().filter(|(d, _)| d == driver).count() as i64;
            let limit = limits.get(driver.as_str());
            limit.is_some_and(|limit| count > i64::from(*limit))
        };
        if new.iter().any(over) {
            return Err(Rejection::unschedulable("node(s) exceed max volume count"));
        }
        Ok(())
    }
}

impl Judge<'_> {
    /// Volumes that pods of the node use, or that are attached to it.
    fn there(&self, node: &NodeInfo) -> BTreeSet<Attached> {
        let mut all = BTreeSet::new();
        for pod in &node.pods {
            for name in pod.claims() {
                // A claim that cannot be looked up has nothing attached.
                if let Ok(Some(volume)) = attached(self.world, &pod.key.namespace, name) {
                    all.insert(volume);
                }
            }
        }
        let attachments = self.world.attachments.list(None);
        for a in attachments
            .iter()
            .filter(|a| a.spec.node_name == node.name())
        {
            let name = a.spec.source.persistent_volume_name.as_deref();
            let volume = name.and_then(|n| self.world.volumes.get("", n));
            let handle = volume.and_then(|v| {
                v.spec
                    .as_ref()?
                    .csi
                    .as_ref()
                    .map(|c| c.volume_handle.clone())
            });
            all.extend(handle.map(|h| (a.spec.attacher.clone(), h)));
        }
        all
    }
}
