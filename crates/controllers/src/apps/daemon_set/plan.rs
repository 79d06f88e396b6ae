//! Which nodes get, keep or lose a daemon pod, decided without side effects.
//! Upstream: pkg/controller/daemon/{daemon_controller,update}.go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{DaemonSet, DaemonSetStatus};
use api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use api::meta::OwnerReference;
use jiff::Timestamp;

use super::history::HASH;
use crate::common::numbers::{Round as Rounding, count, scaled};
use crate::common::object::Object;
use crate::common::{placement, pods, taints};

/// The annotation by which the API server counts templates, copied to pods as a label.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// Everything a decision is made from.
pub struct Seen<'a> {
    set: &'a DaemonSet,
    hash: &'a str,
    now: Timestamp,
    nodes: Vec<Arc<Node>>,
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    /// Pods that wait for a node which is not there.
    stranded: Vec<Arc<Pod>>,
    spec: PodSpec,
}

/// What one pass does.
#[derive(Debug, Default)]
pub struct Round {
    /// Names of nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    pub ended: Vec<Ended>,
}

/// A daemon pod that has ended and is to be replaced.
#[derive(Debug)]
pub struct Ended {
    pub pod: Arc<Pod>,
    pub node: String,
    pub failed: bool,
}

/// Whether a node should get a pod, and whether one may stay there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub run: bool,
    pub stay: bool,
}

/// Whether pods are replaced by the controller when the template changes.
pub fn rolls(set: &DaemonSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.is_none_or(|s| s.type_.as_deref().unwrap_or("RollingUpdate") == "RollingUpdate")
}

/// Surge and unavailability in nodes, of so many desired; both round up, and cannot both be nothing.
fn fenceposts(set: &DaemonSet, desired: i32) -> (i32, i32) {
    let rolling = set.spec.update_strategy.as_ref();
    let rolling = rolling
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default();
    let surge = scaled(rolling.max_surge.as_ref(), desired, Rounding::Up);
    let unavailable = match &rolling.max_unavailable {
        None => 1,
        some => scaled(some.as_ref(), desired, Rounding::Up),
    };
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

fn toleration(key: &str, effect: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    }
}

/// Tolerations that all daemon pods have.
fn add_tolerations(spec: &mut PodSpec) {
    let mut added = vec![
        toleration("not-ready", "NoExecute"),
        toleration("unreachable", "NoExecute"),
        toleration("disk-pressure", "NoSchedule"),
        toleration("memory-pressure", "NoSchedule"),
        toleration("pid-pressure", "NoSchedule"),
        toleration("unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        added.push(toleration("network-unavailable", "NoSchedule"));
    }
    let all = spec.tolerations.get_or_insert_default();
    for new in added {
        let same = |t: &&mut Toleration| {
            t.key == new.key && t.effect == new.effect && t.operator == new.operator
        };
        match all.iter_mut().find(same) {
            Some(known) => *known = new,
            None => all.push(new),
        }
    }
}

/// The daemon pod of a node. The scheduler binds it; its affinity leaves it no choice.
pub fn pod_for(set: &DaemonSet, owner: OwnerReference, hash: &str, node: &str) -> Pod {
    let mut pod = pods::from_template(&set.spec.template, set.namespace(), owner);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    if let Some(generation) = set.annotations().get(GENERATION) {
        labels.insert(GENERATION_LABEL.into(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    add_tolerations(spec);
    let affinity = spec.affinity.get_or_insert_default();
    let affinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".into(),
                operator: "In".into(),
                values: Some(vec![node.into()]),
            }]),
        }],
    });
    pod
}

/// The node a daemon pod is on, or waits for.
fn node_of(pod: &Pod) -> Option<&str> {
    let bound = pods::node(pod);
    if !bound.is_empty() {
        return Some(bound);
    }
    placement::target_node(pod.spec.as_ref()?)
}

/// Order in which the first pod of a node is kept: bound, then older, then by name.
fn keep_order(a: &Arc<Pod>, b: &Arc<Pod>) -> std::cmp::Ordering {
    let key = |p: &Arc<Pod>| (pods::node(p).is_empty(), p.created(), p.name().to_string());
    key(a).cmp(&key(b))
}

impl<'a> Seen<'a> {
    /// Sorts pods by node.
    pub fn new(
        set: &'a DaemonSet,
        hash: &'a str,
        all: &[Arc<Pod>],
        nodes: &[Arc<Node>],
        now: Timestamp,
    ) -> Self {
        let mut spec = set.spec.template.spec.clone().unwrap_or_default();
        add_tolerations(&mut spec);
        let mut seen = Self {
            set,
            hash,
            now,
            nodes: nodes.to_vec(),
            by_node: BTreeMap::new(),
            stranded: Vec::new(),
            spec,
        };
        for pod in all.iter().filter(|p| !(pods::terminal(p) && p.deleting())) {
            let Some(node) = node_of(pod) else { continue };
            let known = nodes.iter().any(|n| n.name() == node);
            if !known && pods::node(pod).is_empty() && !pod.deleting() {
                seen.stranded.push(pod.clone());
            }
            let pods = seen.by_node.entry(node.to_string()).or_default();
            pods.push(pod.clone());
        }
        for pods in seen.by_node.values_mut() {
            pods.sort_by(keep_order);
        }
        seen
    }

    /// Whether the set's pods belong on a node.
    pub fn fit(&self, node: &Node) -> Fit {
        let none = Fit {
            run: false,
            stay: false,
        };
        let named = self.spec.node_name.as_deref().unwrap_or("");
        if (!named.is_empty() && named != node.name()) || !placement::accepts(&self.spec, node) {
            return none;
        }
        let all = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
        let hard: Vec<_> = all.filter(|t| t.effect != "PreferNoSchedule").collect();
        let tolerations = self.spec.tolerations.as_deref().unwrap_or(&[]);
        let run = taints::untolerated(hard.iter().copied(), tolerations).is_none();
        let executing = hard.into_iter().filter(|t| t.effect == "NoExecute");
        Fit {
            run,
            stay: taints::untolerated(executing, tolerations).is_none(),
        }
    }

    fn pods_on(&self, node: &str) -> &[Arc<Pod>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }

    fn available(&self, pod: &Pod) -> bool {
        let min = self.set.spec.min_ready_seconds.unwrap_or(0);
        pods::available(pod, min, self.now)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.labels().get(HASH).is_some_and(|h| h == self.hash)
    }

    fn desired(&self) -> i32 {
        count(self.nodes.iter().filter(|n| self.fit(n).run).count())
    }

    fn surges(&self) -> bool {
        rolls(self.set) && fenceposts(self.set, self.desired()).0 > 0
    }

    /// Brings each node to one pod where one belongs, and to none elsewhere.
    pub fn manage(&self) -> Round {
        let mut round = Round::default();
        let surges = self.surges();
        for node in &self.nodes {
            let fit = self.fit(node);
            let pods = self.pods_on(node.name());
            if fit.run && pods.is_empty() {
                round.create.push(node.name().into());
            } else if fit.stay {
                self.tidy(node.name(), pods, surges, &mut round);
            } else {
                let live = pods.iter().filter(|p| !p.deleting());
                round.delete.extend(live.cloned());
            }
        }
        round.delete.extend(self.stranded.iter().cloned());
        round
    }

    fn tidy(&self, node: &str, all: &[Arc<Pod>], surges: bool, round: &mut Round) {
        let mut running = Vec::new();
        for pod in all.iter().filter(|p| !p.deleting()) {
            if pods::terminal(pod) {
                round.ended.push(Ended {
                    pod: pod.clone(),
                    node: node.into(),
                    failed: pods::phase(pod) == "Failed",
                });
            } else {
                running.push(pod.clone());
            }
        }
        if !surges {
            round.delete.extend(running.into_iter().skip(1));
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_new(p));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::ready(old) || self.available(new))
        {
            round.delete.push(old.clone());
        }
        round.delete.extend(new.into_iter().skip(1));
        round.delete.extend(old.into_iter().skip(1));
    }

    /// The new and the old pod of a node; `Err` where there are more.
    #[allow(clippy::type_complexity)]
    fn pair(&self, all: &[Arc<Pod>]) -> Result<(Option<Arc<Pod>>, Option<Arc<Pod>>), ()> {
        let live = all.iter().filter(|p| !p.deleting()).cloned();
        let (new, old): (Vec<_>, Vec<_>) = live.partition(|p| self.is_new(p));
        if new.len() > 1 || old.len() > 1 {
            return Err(());
        }
        Ok((new.into_iter().next(), old.into_iter().next()))
    }

    /// A step of a rolling update.
    pub fn roll(&self) -> Round {
        let (surge, unavailable) = fenceposts(self.set, self.desired());
        if surge == 0 {
            self.roll_by_deleting(unavailable)
        } else {
            self.roll_by_surging(surge)
        }
    }

    fn roll_by_deleting(&self, most: i32) -> Round {
        let mut round = Round::default();
        let mut candidates = Vec::new();
        let mut unavailable = 0;
        for all in self.by_node.values() {
            match self.pair(all) {
                Err(()) | Ok((None, None)) => unavailable += 1,
                Ok((Some(new), _)) => unavailable += i32::from(!self.available(&new)),
                Ok((None, Some(old))) if self.available(&old) => candidates.push(old),
                Ok((None, Some(old))) => {
                    // It is missed already: nothing is lost by replacing it at once.
                    unavailable += 1;
                    round.delete.push(old);
                }
            }
        }
        let budget = usize::try_from(most - unavailable).unwrap_or(0);
        round.delete.extend(candidates.into_iter().take(budget));
        round
    }

    fn roll_by_surging(&self, most: i32) -> Round {
        let mut round = Round::default();
        let mut candidates = Vec::new();
        let mut surging = 0;
        for (name, all) in &self.by_node {
            match self.pair(all) {
                Err(()) => surging += 1,
                Ok((None, None) | (Some(_), None)) => {}
                Ok((Some(new), Some(old))) => {
                    if self.available(&new) {
                        round.delete.push(old);
                    } else {
                        surging += 1;
                    }
                }
                Ok((None, Some(old))) if self.available(&old) => candidates.push(name.clone()),
                Ok((None, Some(old))) => {
                    let node = self.nodes.iter().find(|n| n.name() == name);
                    if node.is_some_and(|n| self.fit(n).run) {
                        round.create.push(name.clone());
                    } else {
                        round.delete.push(old);
                    }
                }
            }
        }
        let budget = usize::try_from(most - surging).unwrap_or(0);
        round.create.extend(candidates.into_iter().take(budget));
        round
    }

    /// The status as it should be.
    pub fn status(&self) -> DaemonSetStatus {
        let before = self.set.status.clone().unwrap_or_default();
        let mut s = DaemonSetStatus {
            observed_generation: Some(self.set.generation()),
            collision_count: before.collision_count,
            conditions: before.conditions,
            ..DaemonSetStatus::default()
        };
        let (mut available, mut updated) = (0, 0);
        for node in &self.nodes {
            let first = self.pods_on(node.name()).first();
            if !self.fit(node).run {
                s.number_misscheduled += i32::from(first.is_some());
                continue;
            }
            s.desired_number_scheduled += 1;
            let Some(pod) = first else { continue };
            s.current_number_scheduled += 1;
            s.number_ready += i32::from(pods::ready(pod));
            available += i32::from(self.available(pod));
            // Of two pods on a node the newer template counts when either has it.
            updated += i32::from(self.pods_on(node.name()).iter().any(|p| self.is_new(p)));
        }
        s.number_available = Some(available);
        s.number_unavailable = Some(s.desired_number_scheduled - available);
        s.updated_number_scheduled = Some(updated);
        s
    }

    /// How long until the next pod becomes available.
    pub fn next_available(&self) -> Option<Duration> {
        let min = self.set.spec.min_ready_seconds.unwrap_or(0);
        let all = self.by_node.values().flatten();
        all.filter_map(|p| pods::becomes_available(p, min, self.now))
            .min()
    }
}

/// Whether two statuses say the same: a missing number is a zero.
pub fn same_status(a: &DaemonSetStatus, b: &DaemonSetStatus) -> bool {
    let plain = |s: &DaemonSetStatus| {
        let mut s = s.clone();
        let numbers = [
            &mut s.number_available,
            &mut s.number_unavailable,
            &mut s.updated_number_scheduled,
        ];
        for n in numbers {
            *n = n.filter(|n| *n != 0);
        }
        s.conditions = s.conditions.filter(|c| !c.is_empty());
        s
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests;
