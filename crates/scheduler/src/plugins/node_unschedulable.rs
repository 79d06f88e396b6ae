//! NodeUnschedulable: cordoned nodes take only pods that tolerate the unschedulable taint.

use api::core::v1::Taint;

use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::Pod;
use crate::taint;
use crate::world::World;

pub struct NodeUnschedulable;

struct Judge<'a>(&'a Pod);

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::Node, event::ADD | event::UPDATE_NODE_TAINT),
            (Watched::UnschedulablePod, event::UPDATE_POD_TOLERATION),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.nodes() {
            (None, Some(new)) => !new.unschedulable,
            (Some(old), Some(new)) => old.unschedulable && !new.unschedulable,
            _ => event::tolerates_more(event, pod, &unschedulable_taint()),
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        Ok(PreFilter::Judge(Box::new(Judge(cycle.pod))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.node.unschedulable || taint::tolerated(&self.0.tolerations, &unschedulable_taint())
        {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) were unschedulable"))
    }
}

fn unschedulable_taint() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}
