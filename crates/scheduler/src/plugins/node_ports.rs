//! NodePorts: two pods of a node cannot take the same host port.

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::{HostPort, Pod};
use crate::world::World;

pub struct NodePorts;

struct Judge<'a>(&'a [HostPort]);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::AssignedPod, event::DELETE),
            (Watched::Node, event::ADD | event::UPDATE_NODE_TAINT),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        match event.pod() {
            Some(gone) if !conflict(&pod.host_ports, &gone.host_ports) => Hint::Skip,
            _ => Hint::Queue,
        }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        if cycle.pod.host_ports.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(Judge(&cycle.pod.host_ports))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !conflict(self.0, &node.ports) {
            return Ok(());
        }
        let text = "node(s) didn't have free ports for the requested pod ports";
        Err(Rejection::unschedulable(text))
    }
}

fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|w| taken.iter().any(|t| w.conflicts(t)))
}
