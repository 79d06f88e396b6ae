//! NodeAffinity: nodeSelector and required node affinity select nodes; preferred terms score them.

use std::collections::BTreeSet;

use crate::cycle;
use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::Pod;
use crate::world::World;

pub struct NodeAffinity;

struct Judge<'a>(&'a Pod);
struct Scorer<'a>(&'a Pod);

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[(
            Watched::Node,
            event::ADD | event::UPDATE_NODE_LABEL | event::UPDATE_NODE_TAINT,
        )]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        if event.is_node(event::UPDATE_NODE_TAINT) {
            // The node may have been left out by another filter before: any change of taints counts.
            return Hint::Queue;
        }
        let fits = |n: &Node| pod.selects(&n.name, &n.labels);
        match event.nodes() {
            (old, Some(new)) if fits(new) && !old.is_some_and(fits) => Hint::Queue,
            _ => Hint::Skip,
        }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let pod = cycle.pod;
        let judge = Box::new(Judge(pod));
        let Some(required) = &pod.required_nodes else {
            return Ok(if pod.node_selector.is_empty() {
                PreFilter::Skip
            } else {
                PreFilter::Judge(judge)
            });
        };
        let mut names = BTreeSet::new();
        for term in &required.terms {
            match term.node_names() {
                Some(n) => names.extend(n.into_iter().map(String::from)),
                // This term may match any node.
                None => return Ok(PreFilter::Judge(judge)),
            }
        }
        if names.is_empty() && !required.terms.is_empty() {
            return Err(Rejection::unresolvable("pod affinity terms conflict"));
        }
        Ok(PreFilter::Only(names, judge))
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        if cycle.pod.preferred_nodes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Scorer(cycle.pod))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.0.selects(node.name(), &node.node.labels) {
            return Ok(());
        }
        let text = "node(s) didn't match Pod's node affinity/selector";
        Err(Rejection::unresolvable(text))
    }
}

impl Score for Scorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let terms = self.0.preferred_nodes.iter();
        let met = terms.filter(|(_, t)| t.matches(node.name(), &node.node.labels));
        met.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        cycle::normalize(scores, false);
    }
}
