//! NodeResourcesBalancedAllocation: nodes whose CPU and memory are used alike score higher, the more
//! so where the pod makes them more alike.

use crate::framework::{Cycle, Plugin, Rejection, Score};
use crate::limits;
use crate::node::NodeInfo;

pub struct NodeResourcesBalancedAllocation;

struct Scorer {
    milli_cpu: i64,
    memory: i64,
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let asked = &cycle.pod.requests;
        if asked.milli_cpu == 0 && asked.memory == 0 {
            return Ok(None);
        }
        Ok(Some(Box::new(Scorer {
            milli_cpu: asked.milli_cpu,
            memory: asked.memory,
        })))
    }
}

impl Score for Scorer {
    fn score(&self, node: &NodeInfo) -> i64 {
        let with = balance(node, self.milli_cpu, self.memory);
        let without = balance(node, 0, 0);
        let half = limits::SCORE_MAX / 2;
        half + (half + with - without) / 2
    }
}

/// 100 for resources used alike, less the more their used parts differ.
fn balance(node: &NodeInfo, milli_cpu: i64, memory: i64) -> i64 {
    let (all, used) = (&node.node.allocatable, &node.requested);
    let part = |asked: i64, all: i64| (all > 0).then(|| (asked as f64 / all as f64).min(1.0));
    let cpu = part(used.milli_cpu + milli_cpu, all.milli_cpu);
    let memory = part(used.memory + memory, all.memory);
    let deviation = match (cpu, memory) {
        (Some(a), Some(b)) => (a - b).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * limits::SCORE_MAX as f64) as i64
}
