//! PodTopologySpread: like pods evenly over zones, hosts and other topologies; also by default, for
//! pods of a service or a controller.

use std::collections::HashMap;

use api::selector::{LabelSelector, Operator, Requirement};

use crate::event::{self, Actions, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection, Score};
use crate::labels::{self, Labels};
use crate::limits;
use crate::node::{Node, NodeInfo};
use crate::pod::{Pod, Spread};
use crate::taint;
use crate::world::World;

pub struct PodTopologySpread;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// What a node that lacks a topology scores before normalization.
const IGNORED: i64 = -1;

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

struct Scorer {
    namespace: std::sync::Arc<str>,
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
            Object::Pod(old, new) => pod_helps(pod, old, new),
            Object::Node(old, new) => node_helps(pod, old, new),
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
            (default_constraints(cycle.world, pod), false)
        } else {
            let soft = pod.spread.iter().filter(|s| !s.hard);
            (soft.cloned().collect(), true)
        };
        if constraints.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Scorer::new(
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

// === Score ===

/// The constraints that apply to pods without any: few pods of a kind on one host and in one zone.
fn default_constraints(world: &World, pod: &Pod) -> Vec<Spread> {
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
    fn new(
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

// === Hints ===

fn pod_helps(pod: &Pod, old: Option<&Pod>, new: Option<&Pod>) -> bool {
    if new.is_some_and(|n| n.uid == pod.uid) {
        return true;
    }
    let hard = || pod.spread.iter().filter(|s| s.hard);
    let counted = |p: &Pod, s: &Spread| counts(p, s, &pod.key.namespace);
    match (old, new) {
        (Some(old), Some(new)) => hard().any(|s| counted(old, s) != counted(new, s)),
        (Some(one), None) | (None, Some(one)) => hard().any(|s| {
            let selector = s.selector.as_ref().filter(|l| !l.is_empty());
            one.key.namespace == pod.key.namespace
                && selector.is_some_and(|l| one.labels.satisfy(l))
        }),
        (None, None) => true,
    }
}

fn node_helps(pod: &Pod, old: Option<&Node>, new: Option<&Node>) -> bool {
    let hard = || pod.spread.iter().filter(|s| s.hard);
    let has_all = |n: &Node| hard().all(|s| n.labels.get(&s.topology_key).is_some());
    match (old, new) {
        (Some(old), Some(new)) => {
            let values = |n: &Node| -> Vec<Option<String>> {
                hard()
                    .map(|s| n.labels.get(&s.topology_key).map(String::from))
                    .collect()
            };
            has_all(old) != has_all(new)
                || (has_all(new) && (values(old) != values(new) || old.taints != new.taints))
        }
        (one, other) => one.or(other).is_none_or(has_all),
    }
}
