//! What plugins implement. A plugin says at each extension point what it has to do for one pod; at
//! PreFilter and PreScore it hands out an object that judges nodes, so state between points is typed
//! and a plugin without work is not called per node. Upstream: kube-scheduler/framework.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::cycle::Filters;
use crate::diagnosis::Diagnosis;
use crate::event::{Actions, ClusterEvent, Watched};
use crate::node::NodeInfo;
use crate::nominator::Nominator;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use crate::world::World;

/// A text that ends up in the failure message.
pub type Reason = Cow<'static, str>;

/// How final a rejection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Removing pods may help.
    Unschedulable,
    /// Removing pods cannot help.
    Unresolvable,
    /// Waits for something the plugin has set in motion.
    Pending,
    /// Something broke; the attempt says nothing about the pod.
    Error,
}

/// Why a pod cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub reasons: Vec<Reason>,
}

/// Which plugin, by its place in `plugins::PLUGINS`.
pub type PluginIndex = usize;

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u64);

/// Whether an event makes another attempt worthwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    Skip,
    Queue,
}

/// What all plugins see in one cycle.
#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub pod: &'a Pod,
    pub snapshot: &'a Snapshot,
    pub world: &'a World,
}

/// What a plugin wants to do at Filter.
pub enum PreFilter<'a> {
    /// Nothing, for this pod.
    Skip,
    /// Judge every node.
    Judge(Box<dyn Filter + 'a>),
    /// Judge, and only these nodes come into question.
    Only(BTreeSet<String>, Box<dyn Filter + 'a>),
}

/// An attempt that failed.
pub struct Attempt<'a> {
    pub cycle: Cycle<'a>,
    /// `None` where PreFilter rejected the pod.
    pub filters: Option<&'a Filters<'a>>,
    pub diagnosis: &'a Diagnosis,
    pub nominator: &'a Nominator,
}

/// What came of PostFilter.
#[derive(Debug)]
pub enum PostFilter {
    Skip,
    /// Nothing helps; the pod keeps its nomination, or loses it.
    Rejected {
        reason: String,
        clear_nomination: bool,
    },
    /// Removing these pods makes room on a node.
    Nominated(Preemption),
}

/// Pods that make room on a node for a more important one.
#[derive(Clone, Debug)]
pub struct Preemption {
    pub node: Arc<str>,
    /// Most important first.
    pub victims: Vec<Arc<Pod>>,
}

/// Judges nodes for one pod.
pub trait Filter: Send + Sync {
    /// Whether the pod may go to the node.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;
    /// Takes into account a pod that is now also on the node.
    fn add_pod(&mut self, _pod: &Pod, _node: &NodeInfo) {}
    /// Takes into account a pod that is no longer on the node.
    fn remove_pod(&mut self, _pod: &Pod, _node: &NodeInfo) {}
    /// An independent copy, for what-if questions; `None` where neither `add_pod` nor `remove_pod` matter.
    fn fork<'s>(&'s self) -> Option<Box<dyn Filter + 's>> {
        None
    }
}

/// Scores nodes for one pod.
pub trait Score: Send + Sync {
    /// The raw score of a node.
    fn score(&self, node: &NodeInfo) -> i64;
    /// Brings the scores of all nodes (in the order they were scored) into 0..=100.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Work between placing a pod and binding it.
#[async_trait]
pub trait PreBind: Send {
    /// Does the work; the binding goes on when it is done.
    async fn run(self: Box<Self>) -> Result<(), Rejection>;
}

/// A scheduling plugin. Every method but `name` has a default that does nothing.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// Events that may help a pod this plugin rejected.
    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[]
    }

    /// Whether an event of `wakes_on` helps this pod.
    fn hint(&self, _world: &World, _pod: &Pod, _event: &ClusterEvent<'_>) -> Hint {
        Hint::Queue
    }

    /// Whether the pod may enter the queue of pods to schedule.
    fn pre_enqueue(&self, _world: &World, _pod: &Pod) -> Result<(), Rejection> {
        Ok(())
    }

    /// What the plugin does at Filter.
    fn pre_filter<'a>(&self, _cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        Ok(PreFilter::Skip)
    }

    /// What can be done about a pod that fits nowhere.
    fn post_filter(&self, _attempt: &Attempt<'_>) -> PostFilter {
        PostFilter::Skip
    }

    /// The plugin's scores for nodes that passed all filters; `None` for no opinion.
    fn pre_score<'a>(
        &self,
        _cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        Ok(None)
    }

    /// Reserves what the pod needs on its node. Every plugin's `unreserve` follows a failure.
    fn reserve(&self, _cycle: &Cycle<'_>, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Gives back what `reserve` took; harmless where nothing was taken.
    fn unreserve(&self, _world: &World, _pod: &Pod) {}

    /// Last veto before the pod is bound.
    fn permit(&self, _cycle: &Cycle<'_>, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Work to do before the binding; `None` for none.
    fn pre_bind(&self, _world: &Arc<World>, _pod: &Arc<Pod>) -> Option<Box<dyn PreBind>> {
        None
    }
}

// === Rejection ===

impl Rejection {
    /// Removing pods may help.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self {
            code: Code::Unschedulable,
            reasons: vec![reason.into()],
        }
    }

    /// Removing pods cannot help.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self {
            code: Code::Unresolvable,
            reasons: vec![reason.into()],
        }
    }

    /// Something broke.
    pub fn error(reason: impl Into<Reason>) -> Self {
        Self {
            code: Code::Error,
            reasons: vec![reason.into()],
        }
    }

    /// All reasons in one text.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

// === PluginSet ===

impl PluginSet {
    /// Adds a plugin.
    pub fn insert(&mut self, plugin: PluginIndex) {
        self.0 |= 1 << plugin;
    }

    /// Whether a plugin is in the set.
    pub fn contains(self, plugin: PluginIndex) -> bool {
        self.0 & (1 << plugin) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All plugins of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = PluginIndex> {
        (0..64).filter(move |i| self.contains(*i))
    }
}
