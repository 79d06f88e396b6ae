//! A deployment's status: counts, conditions, and whether it makes progress.
//! Upstream: pkg/controller/deployment/{progress,sync}.go and util.

use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use jiff::Timestamp;

use super::plan;
use crate::common::object::{Object, time};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A condition of now.
pub fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: time(now),
        last_update_time: time(now),
    }
}

/// A condition by type.
pub fn find<'a>(s: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    let mut all = s.conditions.iter().flatten();
    all.find(|c| c.type_.as_deref() == Some(kind))
}

/// Sets a condition, unless one of the same status and reason is there.
pub fn set(s: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(known) = find(s, new.type_.as_deref().unwrap_or("")) {
        if known.status == new.status && known.reason == new.reason {
            return;
        }
        if known.status == new.status {
            new.last_transition_time = known.last_transition_time.clone();
        }
    }
    let kind = new.type_.clone();
    let conditions = s.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != kind);
    conditions.push(new);
}

fn remove(s: &mut DeploymentStatus, kind: &str) {
    if let Some(all) = &mut s.conditions {
        all.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

/// Whether progress is watched at all.
pub fn has_deadline(d: &Deployment) -> bool {
    let deadline = plan::spec(d).progress_deadline_seconds;
    deadline.is_some_and(|s| s != i32::MAX)
}

/// Sets a Progressing condition where progress is watched; tells whether it did.
pub fn progressing(
    d: &mut Deployment,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    if !has_deadline(d) {
        return false;
    }
    let new = condition(PROGRESSING, status, reason, message, now);
    set(d.status.get_or_insert_default(), new);
    true
}

/// Whether no Progressing condition is there yet.
pub fn knows_no_progress(d: &Deployment) -> bool {
    has_deadline(d)
        && d.status
            .as_ref()
            .is_none_or(|s| find(s, PROGRESSING).is_none())
}

/// Notes that a deployment was paused or resumed; tells whether the status changed.
pub fn mark_paused(d: &mut Deployment, now: Timestamp) -> bool {
    if !has_deadline(d) {
        return false;
    }
    let current = d.status.as_ref().and_then(|s| find(s, PROGRESSING));
    let reason = current.and_then(|c| c.reason.clone()).unwrap_or_default();
    if reason == TIMED_OUT {
        return false;
    }
    let paused = plan::spec(d).paused == Some(true);
    match (paused, reason.as_str()) {
        (true, "DeploymentPaused") => false,
        (true, _) => {
            let m = "Deployment is paused".into();
            progressing(d, "Unknown", "DeploymentPaused", m, now)
        }
        (false, "DeploymentPaused") => {
            let m = "Deployment is resumed".into();
            progressing(d, "Unknown", "DeploymentResumed", m, now)
        }
        (false, _) => false,
    }
}

/// The status of a deployment with these ReplicaSets; progress is not judged here.
pub fn calculate(
    d: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let all = || old.iter().chain(new);
    let sum = |f: &dyn Fn(&ReplicaSet) -> i32| -> i32 { all().map(f).sum() };
    let available = sum(&plan::available);
    let before = d.status.clone().unwrap_or_default();
    let terminating: Option<Vec<i32>> = all()
        .map(plan::status_of)
        .filter(|s| s.observed_generation.is_some())
        .map(|s| s.terminating_replicas)
        .collect();
    let mut s = DeploymentStatus {
        observed_generation: Some(d.generation()),
        replicas: Some(sum(&|r| plan::status_of(r).replicas)),
        updated_replicas: Some(new.map_or(0, |n| plan::status_of(n).replicas)),
        ready_replicas: Some(sum(&|r| plan::status_of(r).ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((plan::total(all()) - available).max(0)),
        terminating_replicas: terminating.map(|t| t.iter().sum()),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let least = plan::replicas(d) - plan::max_unavailable(d);
    let (status, reason, message) = if available >= least {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    let c = condition(AVAILABLE, status, reason, message.into(), now);
    set(&mut s, c);
    s
}

/// Whether all pods are new ones and available.
pub fn complete(d: &Deployment, s: &DeploymentStatus) -> bool {
    let wanted = Some(plan::replicas(d));
    s.updated_replicas == wanted
        && s.replicas == wanted
        && s.available_replicas == wanted
        && s.observed_generation >= d.metadata.generation
}

fn moved_on(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let n = |o: Option<i32>| o.unwrap_or(0);
    let old = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(after.updated_replicas) > n(before.updated_replicas)
        || old(after) < old(before)
        || n(after.ready_replicas) > n(before.ready_replicas)
        || n(after.available_replicas) > n(before.available_replicas)
}

/// Time left until a rollout without progress has failed; `None` where it cannot.
fn deadline_left(d: &Deployment, s: &DeploymentStatus, now: Timestamp) -> Option<i64> {
    let deadline = plan::spec(d).progress_deadline_seconds?;
    let since = find(s, PROGRESSING)?.last_update_time.as_ref()?.0;
    Some(since.as_second() + i64::from(deadline) - now.as_second())
}

fn timed_out(d: &Deployment, s: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(current) = find(s, PROGRESSING) else {
        return false;
    };
    match current.reason.as_deref() {
        Some(NEW_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => deadline_left(d, s, now).is_some_and(|left| left < 0),
    }
}

/// Judges the progress of a rollout in its new status.
pub fn judge(
    d: &Deployment,
    s: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) {
    let before = d.status.clone().unwrap_or_default();
    let current = find(&before, PROGRESSING).cloned();
    let what = match new {
        Some(n) => format!("ReplicaSet {:?}", n.name()),
        None => format!("Deployment {:?}", d.name()),
    };
    let was_complete = s.replicas == s.updated_replicas
        && current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some(NEW_AVAILABLE));
    if !has_deadline(d) {
        remove(s, PROGRESSING);
    } else if was_complete {
        // Nothing to judge until the template changes.
    } else if complete(d, s) {
        let m = format!("{what} has successfully progressed.");
        set(s, condition(PROGRESSING, "True", NEW_AVAILABLE, m, now));
    } else if moved_on(&before, s) {
        let m = format!("{what} is progressing.");
        let mut c = condition(PROGRESSING, "True", "ReplicaSetUpdated", m, now);
        if let Some(known) = current.filter(|k| k.status.as_deref() == Some("True")) {
            c.last_transition_time = known.last_transition_time;
        }
        // Replaced, not merged: the time of the last update is what the deadline counts from.
        remove(s, PROGRESSING);
        set(s, c);
    } else if timed_out(d, s, now) {
        let m = format!("{what} has timed out progressing.");
        set(s, condition(PROGRESSING, "False", TIMED_OUT, m, now));
    }
    copy_failure(s, new, old);
}

fn copy_failure(s: &mut DeploymentStatus, new: Option<&ReplicaSet>, old: &[ReplicaSet]) {
    let mut found = new.into_iter().chain(old).filter_map(|set| {
        let conditions = plan::status_of(set).conditions.iter().flatten();
        conditions
            .into_iter()
            .find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE))
    });
    match found.next() {
        None => remove(s, REPLICA_FAILURE),
        Some(c) => set(
            s,
            DeploymentCondition {
                type_: c.type_.clone(),
                status: c.status.clone(),
                reason: c.reason.clone(),
                message: c.message.clone(),
                last_transition_time: c.last_transition_time.clone(),
                last_update_time: c.last_transition_time.clone(),
            },
        ),
    }
}

/// When a rollout that does not move must be looked at again.
pub fn recheck(d: &Deployment, s: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let current = find(s, PROGRESSING).filter(|_| has_deadline(d))?;
    if complete(d, s) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let left = deadline_left(d, s, now)?;
    Some(Duration::from_secs(
        u64::try_from(left + 1).unwrap_or(0).max(1),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn deployment() -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 1},
            "spec": {"replicas": 1, "progressDeadlineSeconds": 10, "selector": {}, "template": {}}}))
        .unwrap()
    }

    fn set_of(updated: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "d-1"}, "spec": {"replicas": 1, "selector": {}},
            "status": {"replicas": updated, "readyReplicas": available, "availableReplicas": available}}))
        .unwrap()
    }

    fn step(d: &mut Deployment, set: &ReplicaSet, now: i64) -> (String, String) {
        let mut s = calculate(d, Some(set), &[], at(now));
        judge(d, &mut s, Some(set), &[], at(now));
        d.status = Some(s);
        let c = find(d.status.as_ref().unwrap(), PROGRESSING).unwrap();
        (c.status.clone().unwrap(), c.reason.clone().unwrap())
    }

    #[test]
    fn a_rollout_progresses_stalls_fails_and_completes() {
        let mut d = deployment();
        let no = String::from;
        progressing(&mut d, "True", "NewReplicaSetCreated", String::new(), at(0));
        assert_eq!(
            step(&mut d, &set_of(1, 0), 1),
            (no("True"), no("ReplicaSetUpdated"))
        );
        let s = d.status.clone().unwrap();
        assert_eq!(recheck(&d, &s, at(4)), Some(Duration::from_secs(8)));
        assert_eq!(
            step(&mut d, &set_of(1, 0), 11),
            (no("True"), no("ReplicaSetUpdated"))
        );
        assert_eq!(
            step(&mut d, &set_of(1, 0), 12),
            (no("False"), no(TIMED_OUT))
        );
        assert_eq!(
            step(&mut d, &set_of(1, 1), 20),
            (no("True"), no(NEW_AVAILABLE))
        );
        let s = d.status.clone().unwrap();
        assert_eq!(recheck(&d, &s, at(21)), None);
        assert_eq!(find(&s, AVAILABLE).unwrap().status.as_deref(), Some("True"));
    }

    #[test]
    fn pausing_and_resuming_are_noted_once() {
        let mut d = deployment();
        d.spec.paused = Some(true);
        assert!(mark_paused(&mut d, at(0)));
        assert!(!mark_paused(&mut d, at(1)));
        d.spec.paused = None;
        assert!(mark_paused(&mut d, at(2)));
        assert!(!mark_paused(&mut d, at(3)));
    }
}
