//! TaintToleration: no pod on a node whose NoSchedule or NoExecute taints it does not tolerate; nodes
//! with fewer untolerated PreferNoSchedule taints score higher.

use api::core::v1::Toleration;

use crate::cycle;
use crate::event::{self, Actions, ClusterEvent, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection, Score};
use crate::node::{Node, NodeInfo};
use crate::pod::Pod;
use crate::taint;
use crate::world::World;

pub struct TaintToleration;

struct Judge<'a>(&'a [Toleration]);

/// Tolerations that speak about PreferNoSchedule.
struct Scorer<'a>(Vec<&'a Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (Watched::Node, event::ADD | event::UPDATE_NODE_TAINT),
            (Watched::UnschedulablePod, event::UPDATE_POD_TOLERATION),
        ]
    }

    fn hint(&self, _world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let fits = |n: &Node| taint::untolerated(&n.taints, &pod.tolerations).is_none();
        let helps = match event.nodes() {
            (old, Some(new)) => fits(new) && !old.is_some_and(fits),
            _ => event.pod().is_some_and(|p| p.uid == pod.uid),
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        Ok(PreFilter::Judge(Box::new(Judge(&cycle.pod.tolerations))))
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let all_equal = nodes.iter().all(|n| n.node.taints.is_empty());
        if all_equal {
            return Ok(Some(Box::new(Scorer(Vec::new()))));
        }
        let speaks = |t: &&Toleration| {
            matches!(
                t.effect.as_deref(),
                None | Some("") | Some("PreferNoSchedule")
            )
        };
        let mine = cycle.pod.tolerations.iter().filter(speaks).collect();
        Ok(Some(Box::new(Scorer(mine))))
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        match taint::untolerated(&node.node.taints, self.0) {
            None => Ok(()),
            Some(_) => Err(Rejection::unresolvable("node(s) had untolerated taint(s)")),
        }
    }
}

impl Score for Scorer<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let taints = node.node.taints.iter();
        let soft = taints.filter(|t| t.effect == "PreferNoSchedule");
        let bad = soft.filter(|t| !self.0.iter().any(|own| taint::tolerates(own, t)));
        bad.count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        cycle::normalize(scores, true);
    }
}
