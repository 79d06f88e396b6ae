//! InterPodAffinity: pods near to, or away from, other pods, compared over a topology key.

use std::collections::HashMap;

use crate::event::{self, Actions, ClusterEvent, Object, Watched};
use crate::framework::{Cycle, Filter, Hint, Plugin, PreFilter, Rejection, Score};
use crate::labels::Labels;
use crate::limits;
use crate::node::{Node, NodeInfo};
use crate::pod::{AffinityTerm, Pod};
use crate::world::World;

pub struct InterPodAffinity;

/// Weight of other pods' required affinity in scores (InterPodAffinityArgs.hardPodAffinityWeight).
const HARD_WEIGHT: i64 = 1;

/// Sums by topology key and value.
#[derive(Clone, Debug, Default)]
struct Sums(Vec<(Box<str>, Values)>);

/// Sums by value of one key.
type Values = HashMap<Box<str>, i64>;

#[derive(Clone)]
struct Judge<'a> {
    pod: &'a Pod,
    affinity: Vec<AffinityTerm>,
    anti_affinity: Vec<AffinityTerm>,
    namespace: Labels,
    /// Pods that match all affinity terms.
    near: Sums,
    /// Pods that match an anti-affinity term.
    far: Sums,
    /// Pods that do not want this one near.
    unwanted: Sums,
}

struct Scorer(Sums);

// === Sums ===

impl Sums {
    fn add(&mut self, key: &str, node: &NodeInfo, by: i64) {
        let Some(value) = node.node.labels.get(key) else {
            return;
        };
        let at = match self.0.iter().position(|(k, _)| &**k == key) {
            Some(at) => at,
            None => {
                self.0.push((key.into(), HashMap::new()));
                self.0.len() - 1
            }
        };
        match self.0[at].1.get_mut(value) {
            Some(sum) => *sum += by,
            None => {
                self.0[at].1.insert(value.into(), by);
            }
        }
    }

    fn get(&self, key: &str, value: &str) -> i64 {
        let values = self.0.iter().find(|(k, _)| &**k == key);
        let sum = values.and_then(|(_, values)| values.get(value));
        sum.copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, v)| v.values().all(|sum| *sum == 0))
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn wakes_on(&self) -> &'static [(Watched, Actions)] {
        &[
            (
                Watched::AssignedPod,
                event::ADD | event::DELETE | event::UPDATE_POD_LABEL,
            ),
            (Watched::UnschedulablePod, event::UPDATE_POD_LABEL),
            (
                Watched::Node,
                event::ADD | event::UPDATE_NODE_LABEL | event::UPDATE_NODE_TAINT,
            ),
        ]
    }

    fn hint(&self, world: &World, pod: &Pod, event: &ClusterEvent<'_>) -> Hint {
        let helps = match event.object {
            Object::Pod(old, new) => pod_helps(world, pod, old, new),
            Object::Node(old, Some(new)) => node_helps(pod, old, new),
            _ => true,
        };
        if helps { Hint::Queue } else { Hint::Skip }
    }

    fn pre_filter<'a>(&self, cycle: &Cycle<'a>) -> Result<PreFilter<'a>, Rejection> {
        let pod = cycle.pod;
        let mut judge = Judge {
            pod,
            affinity: resolve(cycle.world, &pod.affinity.required),
            anti_affinity: resolve(cycle.world, &pod.anti_affinity.required),
            namespace: Labels::default(),
            near: Sums::default(),
            far: Sums::default(),
            unwanted: Sums::default(),
        };
        let mut others = cycle.snapshot.with_required_anti_affinity().peekable();
        if others.peek().is_some() {
            judge.namespace = cycle.world.namespace_labels(&pod.key.namespace);
            for node in others {
                for existing in &node.with_required_anti_affinity {
                    judge.count_unwanted(existing, node, 1);
                }
            }
        }
        let own = !(judge.affinity.is_empty() && judge.anti_affinity.is_empty());
        if own {
            for node in cycle.snapshot.nodes() {
                for existing in &node.pods {
                    judge.count_own(existing, node, 1);
                }
            }
        }
        if !own && judge.unwanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Judge(Box::new(judge)))
    }

    fn pre_score<'a>(
        &self,
        cycle: &Cycle<'a>,
        _nodes: &[&'a NodeInfo],
    ) -> Result<Option<Box<dyn Score + 'a>>, Rejection> {
        let sums = preferences(cycle);
        if sums.is_empty() {
            return Ok(None);
        }
        Ok(Some(Box::new(Scorer(sums))))
    }
}

fn resolve(world: &World, terms: &[AffinityTerm]) -> Vec<AffinityTerm> {
    let one = |t: &AffinityTerm| t.resolve(|s| world.namespaces_selected(s));
    terms.iter().map(one).collect()
}

/// Resolved terms need no namespace's labels.
fn no_labels(_namespace: &str) -> Labels {
    Labels::default()
}

// === Filter ===

impl Judge<'_> {
    fn count_unwanted(&mut self, existing: &Pod, node: &NodeInfo, by: i64) {
        for term in &existing.anti_affinity.required {
            if term.matches(self.pod, &|_| self.namespace.clone()) {
                self.unwanted.add(&term.topology_key, node, by);
            }
        }
    }

    fn count_own(&mut self, existing: &Pod, node: &NodeInfo, by: i64) {
        let matches = |t: &AffinityTerm| t.matches(existing, &no_labels);
        if !self.affinity.is_empty() && self.affinity.iter().all(matches) {
            for term in &self.affinity {
                self.near.add(&term.topology_key, node, by);
            }
        }
        for term in self.anti_affinity.iter().filter(|t| matches(t)) {
            self.far.add(&term.topology_key, node, by);
        }
    }

    fn near_enough(&self, node: &NodeInfo) -> bool {
        let mut all_met = true;
        for term in &self.affinity {
            match node.node.labels.get(&term.topology_key) {
                None => return false,
                Some(value) => all_met &= self.near.get(&term.topology_key, value) > 0,
            }
        }
        // The first pod of a group that wants to be near itself may go anywhere.
        let first = || {
            let me = |t: &AffinityTerm| t.matches(self.pod, &no_labels);
            self.near.is_empty() && self.affinity.iter().all(me)
        };
        all_met || first()
    }

    fn far_enough(&self, node: &NodeInfo) -> bool {
        self.anti_affinity.iter().all(|term| {
            let value = node.node.labels.get(&term.topology_key);
            value.is_none_or(|v| self.far.get(&term.topology_key, v) <= 0)
        })
    }

    fn wanted(&self, node: &NodeInfo) -> bool {
        self.unwanted.0.iter().all(|(key, values)| {
            let value = node.node.labels.get(key);
            value.is_none_or(|v| values.get(v).copied().unwrap_or(0) <= 0)
        })
    }
}

impl Filter for Judge<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.near_enough(node) {
            let text = "node(s) didn't match pod affinity rules";
            return Err(Rejection::unresolvable(text));
        }
        if !self.far_enough(node) {
            let text = "node(s) didn't match pod anti-affinity rules";
            return Err(Rejection::unschedulable(text));
        }
        if !self.wanted(node) {
            let text = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::unschedulable(text));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        self.count_unwanted(pod, node, 1);
        self.count_own(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &Pod, node: &NodeInfo) {
        self.count_unwanted(pod, node, -1);
        self.count_own(pod, node, -1);
    }

    fn fork<'s>(&'s self) -> Option<Box<dyn Filter + 's>> {
        Some(Box::new(self.clone()))
    }
}

// === Score ===

/// What speaks for and against each topology value: the pod's own preferences, and those of pods
/// that are there already.
fn preferences(cycle: &Cycle<'_>) -> Sums {
    let pod = cycle.pod;
    let weighted = |terms: &[(i64, AffinityTerm)], sign: i64| -> Vec<(i64, AffinityTerm)> {
        let resolved = terms
            .iter()
            .map(|(w, t)| (w * sign, t.resolve(|s| cycle.world.namespaces_selected(s))));
        resolved.collect()
    };
    let mut own = weighted(&pod.affinity.preferred, 1);
    own.extend(weighted(&pod.anti_affinity.preferred, -1));
    let mut sums = Sums::default();
    if !own.is_empty() {
        for node in cycle.snapshot.nodes() {
            for existing in &node.pods {
                for (weight, term) in own.iter().filter(|(_, t)| t.matches(existing, &no_labels)) {
                    sums.add(&term.topology_key, node, *weight);
                }
            }
        }
    }
    let mut others = cycle.snapshot.with_affinity().peekable();
    if others.peek().is_none() {
        return sums;
    }
    let namespace = cycle.world.namespace_labels(&pod.key.namespace);
    let me = |t: &AffinityTerm| t.matches(pod, &|_| namespace.clone());
    for node in others {
        for existing in &node.with_affinity {
            for term in existing.affinity.required.iter().filter(|t| me(t)) {
                sums.add(&term.topology_key, node, HARD_WEIGHT);
            }
            for (w, t) in existing.affinity.preferred.iter().filter(|(_, t)| me(t)) {
                sums.add(&t.topology_key, node, *w);
            }
            for (w, t) in existing
                .anti_affinity
                .preferred
                .iter()
                .filter(|(_, t)| me(t))
            {
                sums.add(&t.topology_key, node, -w);
            }
        }
    }
    sums
}

impl Score for Scorer {
    fn score(&self, node: &NodeInfo) -> i64 {
        let of = |(key, values): &(Box<str>, Values)| {
            let value = node.node.labels.get(key)?;
            values.get(value).copied()
        };
        self.0.0.iter().filter_map(of).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let max = scores.iter().copied().max().unwrap_or(0);
        let min = scores.iter().copied().min().unwrap_or(0);
        for s in scores {
            *s = match max - min {
                0 => 0,
                range => limits::SCORE_MAX * (*s - min) / range,
            };
        }
    }
}

// === Hints ===

fn pod_helps(world: &World, pod: &Pod, old: Option<&Pod>, new: Option<&Pod>) -> bool {
    if new.is_some_and(|n| n.uid == pod.uid) {
        return true;
    }
    let affinity = resolve(world, &pod.affinity.required);
    let anti_affinity = resolve(world, &pod.anti_affinity.required);
    let all = |terms: &[AffinityTerm], p: &Pod| {
        !terms.is_empty() && terms.iter().all(|t| t.matches(p, &no_labels))
    };
    let wants_me_away = |p: &Pod| {
        let labels = |n: &str| world.namespace_labels(n);
        p.anti_affinity
            .required
            .iter()
            .any(|t| t.matches(pod, &labels))
    };
    match (old, new) {
        (None, Some(new)) => all(&affinity, new),
        (Some(old), None) => all(&anti_affinity, old) || wants_me_away(old),
        (Some(old), Some(new)) => {
            (!all(&affinity, old) && all(&affinity, new))
                || (all(&anti_affinity, old) && !all(&anti_affinity, new))
        }
        (None, None) => true,
    }
}

fn node_helps(pod: &Pod, old: Option<&Node>, new: &Node) -> bool {
    let changed = |t: &AffinityTerm| {
        let value = new.labels.get(&t.topology_key);
        old.is_none_or(|o| o.labels.get(&t.topology_key) != value || o.taints != new.taints)
    };
    let near = pod.affinity.required.iter();
    let nearer = near
        .filter(|t| new.labels.get(&t.topology_key).is_some())
        .any(changed);
    let anti = &pod.anti_affinity.required;
    let no_terms = pod.affinity.required.is_empty() && anti.is_empty();
    // Without own terms it is other pods' anti-affinity that kept the pod away.
    nearer || anti.iter().any(changed) || no_terms
}
