//! The next steps of a StatefulSet, decided without side effects.
//! Upstream: pkg/controller/statefulset/stateful_set_control.go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetStatus};
use api::core::v1::Pod;
use jiff::Timestamp;

use super::{REVISION, identity};
use crate::common::numbers::{Round, count, scaled};
use crate::common::object::Object;
use crate::common::pods;
use crate::limits;

/// Everything a decision is made from.
pub struct Seen<'a> {
    set: &'a StatefulSet,
    pods: BTreeMap<i32, Arc<Pod>>,
    current: &'a str,
    update: &'a str,
    now: Timestamp,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the pod of an ordinal, of the update revision or else of the current one.
    Create {
        ordinal: i32,
        update: bool,
    },
    Delete(Arc<Pod>),
    /// Replace a pod whose identity is wrong by this.
    Update(Box<Pod>),
}

/// The ordinals a set should have.
pub fn range(set: &StatefulSet) -> Range<i32> {
    let start = set
        .spec
        .ordinals
        .as_ref()
        .and_then(|o| o.start)
        .unwrap_or(0);
    start..start + set.spec.replicas.unwrap_or(1)
}

impl<'a> Seen<'a> {
    /// Sorts pods by ordinal.
    pub fn new(
        set: &'a StatefulSet,
        all: &[Arc<Pod>],
        current: &'a str,
        update: &'a str,
        now: Timestamp,
    ) -> Self {
        let with_ordinal =
            |p: &Arc<Pod>| Some((identity::ordinal(set.name(), p.name())?, p.clone()));
        Self {
            set,
            pods: all.iter().filter_map(with_ordinal).collect(),
            current,
            update,
            now,
        }
    }

    fn rolling(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.set
            .spec
            .update_strategy
            .as_ref()?
            .rolling_update
            .as_ref()
    }

    fn on_delete(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.is_some_and(|s| s.type_.as_deref() == Some("OnDelete"))
    }

    fn available(&self, pod: &Pod) -> bool {
        let min = self.set.spec.min_ready_seconds.unwrap_or(0);
        pods::phase(pod) == "Running" && pods::available(pod, min, self.now)
    }

    fn revision(pod: &Pod) -> &str {
        pod.labels().get(REVISION).map_or("", String::as_str)
    }

    /// Whether a new pod of an ordinal is of the update revision.
    fn takes_update(&self, ordinal: i32) -> bool {
        if self.on_delete() {
            return true;
        }
        let start = range(self.set).start;
        let held = match self.rolling() {
            Some(r) => r.partition.unwrap_or(0),
            None => {
                let status = self.set.status.as_ref();
                status.and_then(|s| s.current_replicas).unwrap_or(0)
            }
        };
        ordinal >= start + held
    }

    /// The next steps. In order, one thing at a time; in parallel, all that can be done at once.
    pub fn steps(&self) -> Vec<Step> {
        let ordered = self.set.spec.pod_management_policy.as_deref() != Some("Parallel");
        let mut steps = Vec::new();
        if self.fill(ordered, &mut steps) && self.condemn(ordered, &mut steps) && steps.is_empty() {
            self.roll(&mut steps);
        }
        steps.truncate(limits::BURST_REPLICAS);
        steps
    }

    /// Makes and mends the pods that should be there; tells whether to go on.
    fn fill(&self, ordered: bool, steps: &mut Vec<Step>) -> bool {
        let ended: Vec<&Arc<Pod>> = range(self.set)
            .filter_map(|i| self.pods.get(&i))
            .filter(|p| pods::terminal(p))
            .collect();
        for ordinal in range(self.set) {
            let Some(pod) = self.pods.get(&ordinal) else {
                let update = self.takes_update(ordinal);
                steps.push(Step::Create { ordinal, update });
                if ordered {
                    return false;
                }
                continue;
            };
            if pods::terminal(pod) {
                if !pod.deleting() {
                    steps.push(Step::Delete(pod.clone()));
                }
                if ordered {
                    return false;
                }
                continue;
            }
            if ordered && (pod.deleting() || !self.available(pod)) {
                return false;
            }
            if let Some(right) = identity::corrected(pod, ordinal).filter(|_| !pod.deleting()) {
                steps.push(Step::Update(Box::new(right)));
            }
        }
        ended.is_empty()
    }

    /// Removes pods beyond the range, highest first; tells whether to go on.
    fn condemn(&self, ordered: bool, steps: &mut Vec<Step>) -> bool {
        let range = range(self.set);
        let healthy = |p: &Pod| !p.deleting() && pods::phase(p) == "Running" && pods::ready(p);
        let first_unhealthy = self.pods.values().find(|p| !healthy(p)).map(|p| p.uid());
        let condemned = self.pods.iter().rev().filter(|(i, _)| !range.contains(i));
        for (_, pod) in condemned {
            if pod.deleting() {
                if ordered {
                    return false;
                }
                continue;
            }
            let waits = !self.available(pod) && first_unhealthy != Some(pod.uid());
            if ordered && waits {
                return false;
            }
            steps.push(Step::Delete(pod.clone()));
            if ordered {
                return false;
            }
        }
        true
    }

    /// Replaces pods of other revisions, highest ordinal first.
    fn roll(&self, steps: &mut Vec<Step>) {
        if self.on_delete() {
            return;
        }
        let range = range(self.set);
        let partition = self.rolling().and_then(|r| r.partition).unwrap_or(0);
        let lowest = range.start + partition;
        let unavailable = |p: &Pod| p.deleting() || !self.available(p);
        let old = |p: &Pod| Self::revision(p) != self.update && !p.deleting();
        let most = self.rolling().and_then(|r| r.max_unavailable.as_ref());
        let targets = range.clone().rev().filter(|i| *i >= lowest);
        let targets = targets.filter_map(|i| self.pods.get(&i));
        let Some(most) = most else {
            for pod in targets {
                if old(pod) {
                    steps.push(Step::Delete(pod.clone()));
                    return;
                }
                if unavailable(pod) {
                    return;
                }
            }
            return;
        };
        let wanted = range.end - range.start;
        let most = scaled(Some(most), wanted, Round::Down).max(1);
        let all = range.filter_map(|i| self.pods.get(&i));
        let missing = count(all.filter(|p| unavailable(p)).count());
        let budget = usize::try_from(most - missing).unwrap_or(0);
        let chosen = targets.filter(|p| old(p)).take(budget);
        steps.extend(chosen.map(|p| Step::Delete(p.clone())));
    }

    /// The status as it should be.
    pub fn status(&self) -> StatefulSetStatus {
        let before = self.set.status.clone().unwrap_or_default();
        let number =
            |test: &dyn Fn(&Pod) -> bool| count(self.pods.values().filter(|p| test(p)).count());
        let made = |p: &Pod| !pods::phase(p).is_empty();
        let ready = |p: &Pod| pods::phase(p) == "Running" && pods::ready(p);
        let of =
            |p: &Pod, revision: &str| made(p) && !p.deleting() && Self::revision(p) == revision;
        let mut s = StatefulSetStatus {
            observed_generation: Some(self.set.generation()),
            replicas: number(&made),
            ready_replicas: Some(number(&ready)),
            available_replicas: Some(number(&|p| ready(p) && self.available(p))),
            current_replicas: Some(number(&|p| of(p, self.current))),
            updated_replicas: Some(number(&|p| of(p, self.update))),
            current_revision: Some(self.current.into()),
            update_revision: Some(self.update.into()),
            collision_count: before.collision_count,
            conditions: before.conditions,
        };
        let wanted = Some(self.set.spec.replicas.unwrap_or(1));
        let complete = s.updated_replicas == wanted
            && s.ready_replicas == wanted
            && Some(s.replicas) == wanted;
        if complete && !self.on_delete() {
            s.current_replicas = s.updated_replicas;
            s.current_revision = s.update_revision.clone();
        }
        s
    }

    /// How long until the next pod becomes available.
    pub fn next_available(&self) -> Option<Duration> {
        let min = self.set.spec.min_ready_seconds.unwrap_or(0);
        let all = self.pods.values();
        all.filter_map(|p| pods::becomes_available(p, min, self.now))
            .min()
    }
}

/// Whether two statuses say the same: a missing number is a zero.
pub fn same_status(a: &StatefulSetStatus, b: &StatefulSetStatus) -> bool {
    let plain = |s: &StatefulSetStatus| {
        let mut s = s.clone();
        let numbers = [
            &mut s.ready_replicas,
            &mut s.available_replicas,
            &mut s.current_replicas,
            &mut s.updated_replicas,
            &mut s.collision_count,
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
