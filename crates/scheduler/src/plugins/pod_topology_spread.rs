//! PodTopologySpread: like pods evenly over zones, hosts and other topologies; also by default, for
//! pods of a service or a controller.

use std::collections::HashMap;

use crate::event::{self, Actions, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::{Pod, Spread};
use crate::taint;
use crate::world::World;

mod hints;
mod score;

pub struct PodTopologySpread;

#[derive(Clone)]
struct Judge<'a> {
    pod: &'a Pod,
    /// Each DoNotSchedule constraint with the matching pods by value.
    constraints: Vec<(&'a Spread, Domains)>,
}

/// Matching pods by value of the topology key, and the fewest of them.
#[derive(Clone, Default)]
struct Domains {
    counts: HashMap<Box<str>, i64>,
    min: i64,
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (
                Watched::AssignedPod,
                event::ADD | event::DELETE | event::UPDATE_POD_LABEL,
            ),
            (
                Watched::UnschedulablePod,
                event::UPDATE_POD_LABEL | event::UPDATE_POD_TOLERATION,
            ),
            (
                Watched::Node,
                event::ADD | event::DELETE | event::UPDATE_NODE_LABEL | event::UPDATE_NODE_TAINT,
            ),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.object {
            Object::Pod(old, new) => hints::pod_helps(pod, old, new),
            Object::Node(old, new) => hints::node_helps(pod, old, new),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let pod = cycle.pod;
        let hard = pod.spread.iter().filter(|s| s.hard);
        let mut judge = Judge {
            pod,
            constraints: hard.map(|s| (s, Domains::default())).collect(),
        };
        if judge.constraints.is_empty() {
            return Ok(PreFilter::Skip);
        }
        for node in cycle.snapshot.nodes() {
            judge.count(node, |s| count_pods(node, s, &pod.key.namespace));
        }
        judge.settle();
        Ok(PreFilter::Judge(Box::new(judge)))
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let pod = cycle.pod;
        let (constraints, require_all) = if pod.spread.is_empty() {
            (score::default_constraints(cycle.world, pod), false)
        } else {
            let soft = pod.spread.iter().filter(|s| !s.hard);
            (soft.cloned().collect(), true)
        };
        if constraints.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(score::Scorer::new(
            cycle,
            nodes,
            constraints,
            require_all,
        ))))
    }
}

/// Pods of a node that a constraint counts.
fn count_pods(node: &NodeInfo, spread: &Spread, namespace: &str) -> i64 {
    let counted = node.pods.iter().filter(|p| counts(p, spread, namespace));
    counted.count() as i64
}

fn counts(pod: &Pod, spread: &Spread, namespace: &str) -> bool {
    let Some(selector) = spread.selector.as_ref().filter(|s| !s.is_empty()) else {
        return false;
    };
    *pod.key.namespace == *namespace && !pod.deleting && pod.labels.satisfy(selector)
}

/// Whether a node's pods count for a constraint of the pod.
fn eligible(pod: &Pod, node: &Node, spread: &Spread) -> bool {
    (!spread.honor_affinity || pod.selects(&node.name, &node.labels))
        && (!spread.honor_taints || taint::untolerated(&node.taints, &pod.tolerations).is_none())
}

// === Filter ===

impl Judge<'_> {
    /// Adds what `by` gives for each constraint that the node counts for.
    fn count(&mut self, node: &NodeInfo, by: impl Fn(&Spread) -> i64) {
        let labels = &node.node.labels;
        let lacks = |s: &Spread| labels.get(&s.topology_key).is_none();
        if self.constraints.iter().any(|(s, _)| lacks(s)) {
            return;
        }
        for (spread, domains) in &mut self.constraints {
            let Some(value) = labels.get(&spread.topology_key) else {
                continue;
            };
            if !eligible(self.pod, &node.node, spread) {
                continue;
            }
            let by = by(spread);
            match domains.counts.get_mut(value) {
                Some(count) => *count += by,
                None => {
                    domains.counts.insert(value.into(), by);
                }
            }
        }
    }

    fn settle(&mut self) {
        for (spread, domains) in &mut self.constraints {
            let few = (domains.counts.len() as i64) < spread.min_domains;
            let min = domains.counts.values().copied().min();
            domains.min = if few { 0 } else { min.unwrap_or(0) };
        }
    }

    fn change(&mut self, pod: &Pod, node: &NodeInfo, by: i64) {
        let namespace = self.pod.key.namespace.clone();
        self.count(node, |s| by * i64::from(counts(pod, s, &namespace)));
        self.settle();
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for (spread, domains) in &self.constraints {
            let Some(value) = node.node.labels.get(&spread.topology_key) else {
                let text =
                    "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(text));
            };
            let selector = spread.selector.as_ref();
            let own = selector.is_some_and(|s| self.pod.labels.satisfy(s));
            let there = domains.counts.get(value).copied().unwrap_or(0);
            if there + i64::from(own) - domains.min > spread.max_skew {
                let text = "node(s) didn't match pod topology spread constraints";
                return Err(Rejection::unschedulable(text));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        self.change(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        self.change(pod, node, -1);
    }

    fn fork<'s>(&'s self) -> Option<Box<dyn Filter + 's>> {
        Some(Box::new(self.clone()))
    }
}
