//! NodeDeclaredFeatures: features a pod needs must be declared by the node.

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::{Node, NodeInfo};
use crate::pod::Pod;
use crate::world::World;

pub struct NodeDeclaredFeatures;

struct Judge<'a>(&'a Pod);

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (
                Watched::Node,
                event::ADD | event::UPDATE_NODE_FEATURES | event::UPDATE_NODE_TAINT,
            ),
            (Watched::UnschedulablePod, event::UPDATE_POD),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.object {
            event::Object::Node(_, Some(node)) => declares(node, pod),
            event::Object::Pod(Some(old), Some(new)) => {
                new.uid == pod.uid && old.features != new.features
            }
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        if cycle.pod.features.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(Judge(cycle.pod))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if declares(&node.node, self.0) {
            return Ok(());
        }
        let text = "node(s) didn't match Pod's required features";
        Err(Rejection::unresolvable(text))
    }
}

fn declares(node: &Node, pod: &Pod) -> bool {
    let wanted = pod.features.iter();
    let has = |f: &&str| node.features.iter().any(|d| **d == **f);
    wanted.filter(|f| !has(f)).count() == 0
}
