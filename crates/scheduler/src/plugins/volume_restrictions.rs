//! VolumeRestrictions: disks and ReadWriteOncePod claims that have a single user.

use crate::event::{self, Actions, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::{Pod, Volume};
use crate::world::World;

pub struct VolumeRestrictions;

#[derive(Clone)]
struct Judge<'a> {
    pod: &'a Pod,
    /// Claims of the pod that only one pod may use.
    exclusive: Vec<&'a str>,
    /// Uses of these by other pods.
    conflicts: i64,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::AssignedPod, event::DELETE),
            (Watched::Node, event::ADD | event::UPDATE_NODE_TAINT),
            (Watched::PersistentVolumeClaim, event::ADD),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.object {
            Object::Pod(Some(gone), _) => {
                gone.key.namespace == pod.key.namespace
                    && (disks_conflict(pod, gone)
                        || pod.claims().any(|c| gone.claims().any(|g| g == c)))
            }
            Object::Other(..) => event.entry().is_some_and(|e| uses(pod, e)),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let pod = cycle.pod;
        let mut exclusive = Vec::new();
        for volume in &pod.volumes {
            let Volume::Claim(name) = volume else {
                continue;
            };
            let claim = cycle.world.claims.get(&pod.key.namespace, name);
            let Some(claim) = claim else {
                let text = format!("persistentvolumeclaim {name:?} not found");
                return Err(Rejection::unresolvable(text));
            };
            let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_ref());
            if modes.is_some_and(|m| m.iter().any(|m| m == "ReadWriteOncePod")) {
                exclusive.push(&**name);
            }
        }
        let mut judge = Judge {
            pod,
            exclusive,
            conflicts: 0,
        };
        if !judge.exclusive.is_empty() {
            let pods = cycle.snapshot.nodes().iter().flat_map(|n| &n.pods);
            judge.conflicts = pods.map(|p| judge.uses(p)).sum();
        }
        let disks = |v: &Volume| matches!(v, Volume::Disk { .. });
        if judge.conflicts == 0 && !pod.volumes.iter().any(disks) {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(judge)))
    }
}

/// Whether a pod uses a claim.
pub(super) fn uses(pod: &Pod, claim: &client::Entry) -> bool {
    *claim.namespace == *pod.key.namespace && pod.claims().any(|c| *c == *claim.name)
}

fn disks_conflict(a: &Pod, b: &Pod) -> bool {
    let conflict = |a: &Volume, b: &Volume| match (a, b) {
        (
            Volume::Disk {
                id,
                read_only,
                shareable,
            },
            Volume::Disk {
                id: other,
                read_only: other_read_only,
                ..
            },
        ) => id == other && !(*shareable && *read_only && *other_read_only),
        _ => false,
    };
    let mut all = a.volumes.iter();
    all.any(|a| b.volumes.iter().any(|b| conflict(a, b)))
}

impl Judge<'_> {
    /// How many of the exclusive claims another pod uses.
    fn uses(&self, other: &Pod) -> i64 {
        if other.key.namespace != self.pod.key.namespace {
            return 0;
        }
        let used = |c: &&&str| other.claims().any(|o| o == **c);
        self.exclusive.iter().filter(used).count() as i64
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.pods.iter().any(|p| disks_conflict(self.pod, p)) {
            return Err(Rejection::unschedulable("node(s) had no available disk"));
        }
        if self.conflicts > 0 {
            let text = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
            return Err(Rejection::unschedulable(text));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &Pod, _node: &NodeInfo) {
        self.conflicts += self.uses(pod);
    }

    fn remove_pod(&mut self, pod: &Pod, _node: &NodeInfo) {
        self.conflicts -= self.uses(pod);
    }

    fn fork<'s>(&'s self) -> Option<Box<dyn Filter + 's>> {
        Some(Box::new(self.clone()))
    }
}
