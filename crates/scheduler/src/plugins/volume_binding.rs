//! VolumeBinding: a pod goes where its volumes are, or where volumes for its claims can be found or
//! made; claims that wait for their pod are bound before it is. Upstream: plugins/volumebinding.

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Code, Cycle, Filter, Hint, Plugin, PreBind, PreFilter, Rejection};
use crate::labels::NodeSelector;
use crate::node::NodeInfo;
use crate::pod::{Pod, Volume};
use crate::world::World;

use super::volume_restrictions::uses;

mod bind;
mod matching;
#[cfg(test)]
mod tests;

pub struct VolumeBinding;

/// Annotation of a claim whose binding is complete.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation of a claim: the node a volume shall be made for.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

const AFFINITY: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_VOLUME: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NOT_THERE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// Decisions about volumes by pods that are on their way, by the pod's UID.
#[derive(Debug, Default)]
pub struct Assumed {
    by_pod: HashMap<Arc<str>, Plan>,
}

/// What is to be done for a pod's claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub node: String,
    /// Claim and the volume found for it.
    pub bindings: Vec<(String, String)>,
    /// Claims a volume is to be made for.
    pub provision: Vec<String>,
}

/// The pod's claims, sorted out.
struct Judge<'a> {
    world: &'a World,
    pod: &'a Pod,
    /// Names of volumes that claims are bound to.
    bound: Vec<String>,
    /// Claims that wait for the pod.
    delayed: Vec<Arc<PersistentVolumeClaim>>,
}

// === Assumed ===

impl Assumed {
    /// The pod with this UID is bound, or will not be.
    pub fn settle(&mut self, uid: &str) {
        self.by_pod.remove(uid);
    }

    /// Whether another pod will use a volume.
    fn taken(&self, volume: &str, uid: &str) -> bool {
        let others = self.by_pod.iter().filter(|(u, _)| ***u != *uid);
        others
            .flat_map(|(_, plan)| &plan.bindings)
            .any(|(_, v)| v == volume)
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        const CHANGE: Actions = event::ADD | event::UPDATE;
        &[
            (Watched::StorageClass, CHANGE),
            (Watched::PersistentVolumeClaim, CHANGE),
            (Watched::PersistentVolume, CHANGE),
            (
                Watched::Node,
                event::ADD | event::UPDATE_NODE_LABEL | event::UPDATE_NODE_TAINT,
            ),
            (Watched::CsiNode, CHANGE),
            (Watched::CsiDriver, event::UPDATE),
            (Watched::CsiStorageCapacity, CHANGE),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        match (event.watched, event.entry()) {
            (Watched::PersistentVolumeClaim, Some(claim)) if !uses(pod, claim) => Hint::Skip,
            _ => Hint::Queue,
        }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        Ok(match Judge::new(cycle)? {
            None => PreFilter::Skip,
            Some(judge) => PreFilter::Judge(Box::new(judge)),
        })
    }

    fn reserve(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(judge) = Judge::new(cycle)? else {
            return Ok(());
        };
        let plan = judge.plan(node)?;
        if !(plan.bindings.is_empty() && plan.provision.is_empty()) {
            let mut assumed = cycle.world.assumed_volumes.lock();
            assumed.by_pod.insert(cycle.pod.uid.clone(), plan);
        }
        Ok(())
    }

    fn unreserve(&self, world: &World, pod: &Pod) {
        world.assumed_volumes.lock().settle(&pod.uid);
    }

    fn pre_bind(&self, world: &Arc<World>, pod: &Arc<Pod>) -> Option<Box<dyn PreBind>> {
        let assumed = world.assumed_volumes.lock();
        let plan = assumed.by_pod.get(&pod.uid)?.clone();
        Some(Box::new(bind::BindVolumes {
            world: world.clone(),
            pod: pod.clone(),
            plan,
        }))
    }
}

// === Judge ===

impl<'a> Judge<'a> {
    /// Sorts out the claims of a pod; `None` where it has none.
    fn new(cycle: &Cycle<'a>) -> Result<Option<Self>, Rejection> {
        let mut judge = Self {
            world: cycle.world,
            pod: cycle.pod,
            bound: Vec::new(),
            delayed: Vec::new(),
        };
        for volume in &cycle.pod.volumes {
            let (name, ephemeral) = match volume {
                Volume::Claim(name) => (name, false),
                Volume::Ephemeral { claim } => (claim, true),
                Volume::Disk { .. } => continue,
            };
            judge
                .sort_out(name, ephemeral)
                .map_err(Rejection::unresolvable)?;
        }
        let any = !(judge.bound.is_empty() && judge.delayed.is_empty());
        Ok(any.then_some(judge))
    }

    fn sort_out(&mut self, name: &str, ephemeral: bool) -> Result<(), String> {
        let namespace = &*self.pod.key.namespace;
        let Some(claim) = self.world.claims.get(namespace, name) else {
            return Err(if ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                )
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            });
        };
        let spec = claim.spec.clone().unwrap_or_default();
        let volume = spec.volume_name.unwrap_or_default();
        let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase == Some("Lost") {
            return Err(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        if ephemeral && !self.owns(&claim) {
            return Err(format!(
                "PVC {namespace}/{name} was not created for pod {} (pod is not owner)",
                self.pod.key
            ));
        }
        let complete = annotation(&claim, BIND_COMPLETED).is_some();
        if !volume.is_empty() && complete {
            self.bound.push(volume);
            return Ok(());
        }
        let class = spec.storage_class_name.unwrap_or_default();
        let class = self.world.classes.get("", &class);
        let mode = class
            .as_ref()
            .and_then(|c| c.volume_binding_mode.as_deref());
        if volume.is_empty() && mode == Some("WaitForFirstConsumer") {
            self.delayed.push(claim);
            return Ok(());
        }
        Err("pod has unbound immediate PersistentVolumeClaims".into())
    }

    /// Whether the claim was made for this pod.
    fn owns(&self, claim: &PersistentVolumeClaim) -> bool {
        let owners = claim.metadata.owner_references.iter().flatten();
        let mut owners = owners.filter(|o| o.controller == Some(true));
        owners.any(|o| *o.uid == *self.pod.uid)
    }

    /// What has to be done to use a node, or why it cannot be used.
    fn plan(&self, node: &NodeInfo) -> Result<Plan, Rejection> {
        let mut reasons: Vec<&'static str> = Vec::new();
        for name in &self.bound {
            match self.world.volumes.get("", name) {
                None => reasons.push(NOT_THERE),
                Some(volume) if !reaches(&volume, node) => reasons.push(AFFINITY),
                Some(_) => {}
            }
        }
        let mut plan = Plan {
            node: node.name().into(),
            ..Plan::default()
        };
        if let Err(why) = self.plan_delayed(node, &mut plan) {
            reasons.push(why);
        }
        if reasons.is_empty() {
            return Ok(plan);
        }
        let order = [AFFINITY, NO_VOLUME, NO_SPACE, NOT_THERE];
        let told = order.into_iter().filter(|r| reasons.contains(r));
        Err(Rejection {
            code: Code::Unresolvable,
            reasons: told.map(Into::into).collect(),
        })
    }

    /// Finds a volume for each claim that waits, the smallest claim first, or plans to make one.
    fn plan_delayed(&self, node: &NodeInfo, plan: &mut Plan) -> Result<(), &'static str> {
        let mut claims: Vec<&Arc<PersistentVolumeClaim>> = self.delayed.iter().collect();
        claims.sort_by_key(|c| matching::requested(c));
        for claim in claims {
            let name = claim.metadata.name.clone().unwrap_or_default();
            if let Some(selected) = annotation(claim, SELECTED_NODE) {
                if selected != node.name() {
                    return Err(AFFINITY);
                }
                plan.provision.push(name);
                continue;
            }
            let assumed = self.world.assumed_volumes.lock();
            let free = |v: &PersistentVolume| {
                let volume = v.metadata.name.as_deref().unwrap_or("");
                !assumed.taken(volume, &self.pod.uid)
                    && !plan.bindings.iter().any(|(_, b)| b == volume)
            };
            let all = self.world.volumes.list(None);
            let found = matching::find(claim, &all, |v| free(v) && reaches(v, node));
            drop(assumed);
            match found {
                Some(volume) => plan.bindings.push((name, volume)),
                None => {
                    matching::can_provision(self.world, claim, node)?;
                    plan.provision.push(name);
                }
            }
        }
        Ok(())
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.plan(node).map(|_| ())
    }
}

/// An annotation of a claim.
pub(super) fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    let all = claim.metadata.annotations.as_ref()?;
    all.get(key).map(String::as_str)
}

/// Whether a volume can be used on a node.
fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|a| a.required.as_ref()) else {
        return true;
    };
    let selector = NodeSelector::new(&required.node_selector_terms);
    selector.matches(node.name(), &node.node.labels)
}
