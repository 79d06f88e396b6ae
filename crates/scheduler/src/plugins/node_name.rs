//! NodeName: a pod that names its node goes there only.

use crate::event::{self, Actions, Watched};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::Pod;

pub struct NodeName;

struct Judge<'a>(&'a Pod);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[(Watched::Node, event::ADD)]
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        if cycle.pod.node_name.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(Judge(cycle.pod))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if *self.0.node_name == *node.name() {
            return Ok(());
        }
        let text = "node(s) didn't match the requested node name";
        Err(Rejection::unresolvable(text))
    }
}
