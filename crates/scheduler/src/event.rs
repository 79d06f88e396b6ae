//! What happened in the cluster, in the words plugins register for. Upstream: framework.ClusterEvent
//! and scheduler/framework/events.go.

use client::Entry;

use crate::node::Node;
use crate::pod::Pod;
use crate::taint;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A pod with a node, or one nominated to a node.
    AssignedPod,
    /// A pod without a node.
    UnschedulablePod,
    Node,
    PersistentVolumeClaim,
    PersistentVolume,
    StorageClass,
    CsiNode,
    CsiDriver,
    CsiStorageCapacity,
    VolumeAttachment,
    /// Every pod is worth another try.
    Everything,
}

/// How it changed: bits.
pub type Actions = u32;

pub const ADD: Actions = 1;
pub const DELETE: Actions = 1 << 1;
pub const UPDATE_NODE_ALLOCATABLE: Actions = 1 << 2;
pub const UPDATE_NODE_LABEL: Actions = 1 << 3;
pub const UPDATE_NODE_TAINT: Actions = 1 << 4;
pub const UPDATE_NODE_CONDITION: Actions = 1 << 5;
pub const UPDATE_NODE_ANNOTATION: Actions = 1 << 6;
pub const UPDATE_NODE_FEATURES: Actions = 1 << 7;
pub const UPDATE_POD_LABEL: Actions = 1 << 8;
pub const UPDATE_POD_SCALE_DOWN: Actions = 1 << 9;
pub const UPDATE_POD_TOLERATION: Actions = 1 << 10;
pub const UPDATE_POD_GATES_ELIMINATED: Actions = 1 << 11;
/// Any other update.
pub const UPDATE: Actions = 1 << 12;
/// Updates of pods of any kind.
pub const UPDATE_POD: Actions = UPDATE
    | UPDATE_POD_LABEL
    | UPDATE_POD_SCALE_DOWN
    | UPDATE_POD_TOLERATION
    | UPDATE_POD_GATES_ELIMINATED;

/// One event with the object before and after.
#[derive(Clone, Copy, Debug)]
pub struct ClusterEvent<'a> {
    pub watched: Watched,
    pub actions: Actions,
    pub object: Object<'a>,
}

/// The object of an event: before, after.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    Pod(Option<&'a Pod>, Option<&'a Pod>),
    Node(Option<&'a Node>, Option<&'a Node>),
    Other(Option<&'a Entry>, Option<&'a Entry>),
    None,
}

impl<'a> ClusterEvent<'a> {
    /// An event about a pod that has a node or is nominated to one.
    pub fn assigned(actions: Actions, before: Option<&'a Pod>, after: Option<&'a Pod>) -> Self {
        Self {
            watched: Watched::AssignedPod,
            actions,
            object: Object::Pod(before, after),
        }
    }

    /// Every pod is worth another try.
    pub fn everything() -> Self {
        Self {
            watched: Watched::Everything,
            actions: 0,
            object: Object::None,
        }
    }

    /// Whether it is about adding a node, or about this kind of node update.
    pub fn is_node(&self, actions: Actions) -> bool {
        self.watched == Watched::Node && self.actions & actions != 0
    }

    /// The pod of a pod event, as it is now or last was.
    pub fn pod(&self) -> Option<&'a Pod> {
        match self.object {
            Object::Pod(before, after) => after.or(before),
            _ => None,
        }
    }

    /// The node before and after.
    pub fn nodes(&self) -> (Option<&'a Node>, Option<&'a Node>) {
        match self.object {
            Object::Node(before, after) => (before, after),
            _ => (None, None),
        }
    }

    /// Namespace and name of another object, as it is now or last was.
    pub fn entry(&self) -> Option<&'a Entry> {
        match self.object {
            Object::Other(before, after) => after.or(before),
            _ => None,
        }
    }
}

/// Which kinds of node update a change is.
pub fn node_actions(before: &Node, after: &Node) -> Actions {
    let mut out = 0;
    let mut note = |changed: bool, action: Actions| {
        if changed {
            out |= action;
        }
    };
    note(
        before.unschedulable && !after.unschedulable,
        UPDATE_NODE_TAINT,
    );
    note(before.taints != after.taints, UPDATE_NODE_TAINT);
    note(
        before.allocatable != after.allocatable,
        UPDATE_NODE_ALLOCATABLE,
    );
    note(before.labels != after.labels, UPDATE_NODE_LABEL);
    note(before.conditions != after.conditions, UPDATE_NODE_CONDITION);
    note(
        before.annotations != after.annotations,
        UPDATE_NODE_ANNOTATION,
    );
    note(before.features != after.features, UPDATE_NODE_FEATURES);
    out
}

/// Which kinds of pod update a change is.
pub fn pod_actions(before: &Pod, after: &Pod) -> Actions {
    let mut out = 0;
    if before.labels != after.labels {
        out |= UPDATE_POD_LABEL;
    }
    let (old, new) = (&before.requests, &after.requests);
    let shrunk = new.milli_cpu < old.milli_cpu
        || new.memory < old.memory
        || new.ephemeral_storage < old.ephemeral_storage
        || old.scalars.iter().any(|(n, was)| new.scalar(n) < *was);
    if shrunk {
        out |= UPDATE_POD_SCALE_DOWN;
    }
    if !before.gates.is_empty() && after.gates.is_empty() {
        out |= UPDATE_POD_GATES_ELIMINATED;
    }
    if before.tolerations.len() != after.tolerations.len() {
        out |= UPDATE_POD_TOLERATION;
    }
    if out == 0 { UPDATE } else { out }
}

/// Whether a pod's own toleration update makes it tolerate what it did not before.
pub fn tolerates_more(event: &ClusterEvent<'_>, pod: &Pod, taint: &api::core::v1::Taint) -> bool {
    event.actions & UPDATE_POD_TOLERATION != 0
        && event.pod().is_some_and(|p| p.uid == pod.uid)
        && taint::tolerated(&pod.tolerations, taint)
}
