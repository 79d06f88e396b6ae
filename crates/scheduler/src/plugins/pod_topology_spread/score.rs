//! How evenly the pods like this one would be spread, by the soft constraints or the default ones.

use std::collections::HashMap;
use std::sync::Arc;

use api::selector::{LabelSelector, Operator, Requirement};

use super::{count_pods, eligible};
use crate::framework::{Cycle, Score};
use crate::labels::{self, Labels};
use crate::limits;
use crate::node::NodeInfo;
use crate::pod::{Pod, Spread};
use crate::world::World;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// What a node that lacks a topology scores before normalization.
const IGNORED: i64 = -1;

/// Scores nodes by the soft constraints.
pub(super) struct Scorer {
    namespace: Arc<str>,
    constraints: Vec<Weighted>,
    /// Nodes without one of the topologies score nothing.
    require_all: bool,
}

/// A ScheduleAnyway constraint with what is known about its topology.
struct Weighted {
    spread: Spread,
    counts: HashMap<Box<str>, i64>,
    weight: f64,
}

/// The constraints that apply to pods without any: few pods of a kind on one host and in one zone.
pub(super) fn default_constraints(world: &World, pod: &Pod) -> Vec<Spread> {
    let selector = default_selector(world, pod);
    if selector.is_empty() {
        return Vec::new();
    }
    let one = |key: &str, max_skew: i64| Spread {
        max_skew,
        min_domains: 1,
        topology_key: key.into(),
        hard: false,
        selector: Some(selector.clone()),
        honor_affinity: true,
        honor_taints: false,
    };
    vec![one(HOSTNAME, 3), one(ZONE, 5)]
}

/// What selects the pods like this one: its services' and its controller's selectors together.
fn default_selector(world: &World, pod: &Pod) -> LabelSelector {
    let mut wanted: Vec<(String, String)> = Vec::new();
    for service in world.services.list(Some(&pod.key.namespace)) {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        let Some(selector) = selector.filter(|s| !s.is_empty()) else {
            continue;
        };
        if selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)) {
            wanted.extend(selector.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    let mut out = LabelSelector::default();
    if let Some((kind, name)) = &pod.controller {
        let namespace = &pod.key.namespace;
        let selector = match &**kind {
            "ReplicationController" => {
                let rc = world.replication_controllers.get(namespace, name);
                let spec = rc.and_then(|rc| rc.spec.clone());
                wanted.extend(spec.and_then(|s| s.selector).into_iter().flatten());
                None
            }
            "ReplicaSet" => world
                .replica_sets
                .get(namespace, name)
                .and_then(|rs| labels::selector(&rs.spec.selector)),
            "StatefulSet" => world
                .stateful_sets
                .get(namespace, name)
                .and_then(|set| labels::selector(&set.spec.selector)),
            _ => None,
        };
        out = selector.unwrap_or_default();
    }
    out.requirements
        .extend(wanted.into_iter().map(|(key, value)| Requirement {
            key,
            operator: Operator::In(vec![value]),
        }));
    out
}

fn has_all(labels: &Labels, constraints: &[Weighted]) -> bool {
    let mut keys = constraints.iter().map(|c| &c.spread.topology_key);
    keys.all(|k| labels.get(k).is_some())
}

impl Scorer {
    pub(super) fn new(
        cycle: &Cycle<'_>,
        nodes: &[&NodeInfo],
        constraints: Vec<Spread>,
        require_all: bool,
    ) -> Self {
        let weighted = constraints.into_iter().map(|spread| Weighted {
            spread,
            counts: HashMap::new(),
            weight: 0.0,
        });
        let mut out = Self {
            namespace: cycle.pod.key.namespace.clone(),
            constraints: weighted.collect(),
            require_all,
        };
        let mut ignored = 0;
        for node in nodes {
            if require_all && !has_all(&node.node.labels, &out.constraints) {
                ignored += 1;
                continue;
            }
            for c in out.constraints.iter_mut().filter(|c| !c.per_host()) {
                if let Some(value) = node.node.labels.get(&c.spread.topology_key)
                    && !c.counts.contains_key(value)
                {
                    c.counts.insert(value.into(), 0);
                }
            }
        }
        for c in &mut out.constraints {
            let size = match c.per_host() {
                true => nodes.len() - ignored,
                false => c.counts.len(),
            };
            c.weight = (size as f64 + 2.0).ln();
        }
        if out.constraints.iter().any(|c| !c.per_host()) {
            out.count(cycle);
        }
        out
    }

    /// Counts the pods of all nodes by topology value.
    fn count(&mut self, cycle: &Cycle<'_>) {
        for node in cycle.snapshot.nodes().iter().filter(|n| !n.pods.is_empty()) {
            if self.require_all && !has_all(&node.node.labels, &self.constraints) {
                continue;
            }
            for c in self.constraints.iter_mut().filter(|c| !c.per_host()) {
                let value = node.node.labels.get(&c.spread.topology_key);
                let Some(count) = value.and_then(|v| c.counts.get_mut(v)) else {
                    continue;
                };
                if eligible(cycle.pod, &node.node, &c.spread) {
                    *count += count_pods(node, &c.spread, &self.namespace);
                }
            }
        }
    }
}

impl Weighted {
    fn per_host(&self) -> bool {
        &*self.spread.topology_key == HOSTNAME
    }
}

impl Score for Scorer {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.require_all && !has_all(&node.node.labels, &self.constraints) {
            return IGNORED;
        }
        let mut score = 0.0;
        for c in &self.constraints {
            let Some(value) = node.node.labels.get(&c.spread.topology_key) else {
                continue;
            };
            let count = match c.per_host() {
                true => count_pods(node, &c.spread, &self.namespace),
                false => c.counts.get(value).copied().unwrap_or(0),
            };
            score += count as f64 * c.weight + (c.spread.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let counted = || scores.iter().copied().filter(|s| *s != IGNORED);
        let (max, min) = (counted().max().unwrap_or(0), counted().min().unwrap_or(0));
        for s in scores.iter_mut() {
            *s = match (*s, max) {
                (IGNORED, _) => 0,
                (_, 0) => limits::SCORE_MAX,
                (raw, max) => limits::SCORE_MAX * (max + min - raw) / max,
            };
        }
    }
}
