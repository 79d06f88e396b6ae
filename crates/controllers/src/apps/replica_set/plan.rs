//! What a ReplicaSet needs, decided without side effects.

use std::collections::HashMap;
use std::sync::Arc;

use api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::core::v1::Pod;
use jiff::Timestamp;

use super::Replicas;
use crate::common::object::{Object, time};
use crate::common::pods;
use crate::limits;

/// What is to be done about the number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    None,
    Create(usize),
    Delete(usize),
}

/// Compares what is there with what is wanted; one run does not do everything at once.
pub fn difference(wanted: i32, active: usize) -> Difference {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match wanted.cmp(&active) {
        std::cmp::Ordering::Equal => Difference::None,
        std::cmp::Ordering::Greater => {
            Difference::Create((wanted - active).min(limits::BURST_REPLICAS))
        }
        std::cmp::Ordering::Less => {
            Difference::Delete((active - wanted).min(limits::BURST_REPLICAS))
        }
    }
}

/// The pods to delete. `related` are the pods of sets with the same owner: nodes where many of them run
/// lose some first.
pub fn victims(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|p| pods::active(p)) {
        *on_node.entry(pods::node(pod)).or_default() += 1;
    }
    let crowd = |p: &Pod| on_node.get(pods::node(p)).copied().unwrap_or(0);
    let mut ranked = active.to_vec();
    if count < ranked.len() {
        ranked.sort_by(|a, b| pods::deletion_order(a, b, &crowd, now));
    }
    ranked.truncate(count);
    ranked
}

/// The status of a set with these pods; `failure` is why its pods could not be managed.
pub fn status<S: Replicas>(
    set: &S,
    owned: &[Arc<Pod>],
    failure: Option<(&'static str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template = set.template();
    let labels = template.metadata.and_then(|m| m.labels).unwrap_or_default();
    let min = set.min_ready_seconds();
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|p| pods::active(p)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| -> i32 {
        let n = active.iter().filter(|p| test(p)).count();
        i32::try_from(n).unwrap_or(i32::MAX)
    };
    let labeled = |p: &Pod| labels.iter().all(|(k, v)| p.labels().get(k) == Some(v));
    let terminating = owned.iter().filter(|p| pods::terminating(p)).count();
    let mut status = ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&labeled)),
        ready_replicas: Some(count(&pods::ready)),
        available_replicas: Some(count(&|p| pods::available(p, min, now))),
        terminating_replicas: S::TERMINATING.then(|| i32::try_from(terminating).unwrap_or(0)),
        observed_generation: Some(set.generation()),
        conditions: set.status().conditions,
    };
    set_failure(&mut status, failure, now);
    status
}

fn set_failure(
    status: &mut ReplicaSetStatus,
    failure: Option<(&'static str, String)>,
    now: Timestamp,
) {
    const KIND: &str = "ReplicaFailure";
    let conditions = status.conditions.get_or_insert_default();
    match failure {
        None => conditions.retain(|c| c.type_.as_deref() != Some(KIND)),
        Some((reason, message)) if !conditions.iter().any(|c| c.type_.as_deref() == Some(KIND)) => {
            conditions.push(ReplicaSetCondition {
                type_: Some(KIND.into()),
                status: Some("True".into()),
                reason: Some(reason.into()),
                message: Some(message),
                last_transition_time: time(now),
            });
        }
        Some(_) => {}
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
}

/// Whether two statuses differ for a reader: a missing number is a zero.
pub fn differs(before: &ReplicaSetStatus, after: &ReplicaSetStatus) -> bool {
    let n = |o: Option<i32>| o.unwrap_or(0);
    let numbers = |s: &ReplicaSetStatus| {
        [
            s.replicas,
            n(s.fully_labeled_replicas),
            n(s.ready_replicas),
            n(s.available_replicas),
        ]
    };
    numbers(before) != numbers(after)
        || before.terminating_replicas != after.terminating_replicas
        || before.observed_generation != after.observed_generation
        || before.conditions.as_deref().unwrap_or(&[]) != after.conditions.as_deref().unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_makes_or_removes_at_most_the_burst() {
        assert_eq!(difference(3, 3), Difference::None);
        assert_eq!(difference(3, 1), Difference::Create(2));
        assert_eq!(difference(0, 2), Difference::Delete(2));
        assert_eq!(difference(2000, 0), Difference::Create(500));
        assert_eq!(difference(-1, 0), Difference::None);
    }

    #[test]
    fn a_failure_is_told_until_a_run_succeeds() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut status = ReplicaSetStatus::default();
        set_failure(&mut status, Some(("FailedCreate", "no".into())), now);
        set_failure(&mut status, Some(("FailedCreate", "other".into())), now);
        let told = status.conditions.as_ref().unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].message.as_deref(), Some("no"));
        set_failure(&mut status, None, now);
        assert_eq!(status.conditions, None);
    }
}
