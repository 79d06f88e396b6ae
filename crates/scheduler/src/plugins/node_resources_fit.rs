//! NodeResourcesFit: requests must fit into what the node has left; emptier nodes score higher
//! (strategy LeastAllocated).

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Code, Cycle, Filter, Hint, Plugin, PreFilter, Reason, Rejection, Score};
use crate::limits;
use crate::node::{Node, NodeInfo};
use crate::pod::Pod;
use crate::resource::Resource;
use crate::world::World;

pub struct NodeResourcesFit;

struct Judge<'a>(&'a Resource);

struct Scorer {
    milli_cpu: i64,
    memory: i64,
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (
                Watched::AssignedPod,
                event::DELETE | event::UPDATE_POD_SCALE_DOWN,
            ),
            (Watched::UnschedulablePod, event::UPDATE_POD_SCALE_DOWN),
            (
                Watched::Node,
                event::ADD | event::UPDATE_NODE_ALLOCATABLE | event::UPDATE_NODE_TAINT,
            ),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.object {
            event::Object::Node(old, Some(new)) => node_helps(pod, old, new),
            event::Object::Pod(Some(_), None) => true,
            event::Object::Pod(Some(old), Some(new)) => {
                new.uid == pod.uid || shrinks(&pod.requests, &old.requests, &new.requests)
            }
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        Ok(PreFilter::Judge(Box::new(Judge(&cycle.pod.requests))))
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let (milli_cpu, memory) = cycle.pod.non_zero;
        Ok(Some(Box::new(Scorer { milli_cpu, memory })))
    }
}

/// Whether a new or changed node may take the pod that was refused before.
fn node_helps(pod: &Pod, old: Option<&Node>, new: &Node) -> bool {
    let empty = NodeInfo::default();
    if lacking(&pod.requests, &empty, &new.allocatable).is_some() {
        return false;
    }
    let Some(old) = old else { return true };
    let (before, after) = (&old.allocatable, &new.allocatable);
    old.unschedulable != new.unschedulable
        || old.taints != new.taints
        || after.allowed_pods > before.allowed_pods
        || shrinks(&pod.requests, after, before)
}

/// Whether some resource that is asked for is less in `new` than in `old`.
fn shrinks(asked: &Resource, old: &Resource, new: &Resource) -> bool {
    (asked.milli_cpu > 0 && new.milli_cpu < old.milli_cpu)
        || (asked.memory > 0 && new.memory < old.memory)
        || (asked.ephemeral_storage > 0 && new.ephemeral_storage < old.ephemeral_storage)
        || asked
            .scalars
            .iter()
            .any(|(n, a)| *a > 0 && new.scalar(n) < old.scalar(n))
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        match lacking(self.0, node, &node.node.allocatable) {
            None => Ok(()),
            Some(rejection) => Err(rejection),
        }
    }
}

/// What does not fit; unresolvable where even the empty node would be too small.
fn lacking(asked: &Resource, node: &NodeInfo, all: &Resource) -> Option<Rejection> {
    let used = &node.requested;
    let mut reasons: Vec<Reason> = Vec::new();
    let mut hopeless = false;
    if node.pods.len() as i64 + 1 > all.allowed_pods {
        reasons.push("Too many pods".into());
    }
    let mut check = |asked: i64, used: i64, all: i64, reason: Reason| {
        if asked > 0 && asked > all - used {
            reasons.push(reason);
            hopeless |= asked > all;
        }
    };
    check(
        asked.milli_cpu,
        used.milli_cpu,
        all.milli_cpu,
        Reason::Borrowed("Insufficient cpu"),
    );
    check(
        asked.memory,
        used.memory,
        all.memory,
        Reason::Borrowed("Insufficient memory"),
    );
    check(
        asked.ephemeral_storage,
        used.ephemeral_storage,
        all.ephemeral_storage,
        Reason::Borrowed("Insufficient ephemeral-storage"),
    );
    for (name, amount) in &asked.scalars {
        let (used, all) = (used.scalar(name), all.scalar(name));
        if *amount > 0 && *amount > all - used {
            check(*amount, used, all, format!("Insufficient {name}").into());
        }
    }
    if reasons.is_empty() {
        return None;
    }
    let code = if hopeless {
        Code::Unresolvable
    } else {
        Code::Unschedulable
    };
    Some(Rejection { code, reasons })
}

impl Score for Scorer {
    fn score(&self, node: &NodeInfo) -> i64 {
        let all = &node.node.allocatable;
        let (mut sum, mut weight) = (0, 0);
        for (capacity, requested) in [
            (all.milli_cpu, node.non_zero.0 + self.milli_cpu),
            (all.memory, node.non_zero.1 + self.memory),
        ] {
            if capacity > 0 {
                sum += least_allocated(requested, capacity);
                weight += 1;
            }
        }
        if weight == 0 { 0 } else { sum / weight }
    }
}

fn least_allocated(requested: i64, capacity: i64) -> i64 {
    if requested > capacity {
        return 0;
    }
    (capacity - requested) * limits::SCORE_MAX / capacity
}
