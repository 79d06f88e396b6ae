//! The numbers of a budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use api::meta::{Condition, Time};
use api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use jiff::Timestamp;

use crate::common::numbers::{Round, count, scaled};
use crate::common::object::Object;
use crate::common::pods;

/// How long an eviction may take until the pod counts as healthy again.
const DELETION_TIMEOUT: i64 = 120;

/// Expected and desired pods, where a plain number says so.
pub fn by_number(spec: &PodDisruptionBudgetSpec, selected: usize) -> Option<(i32, i32)> {
    match (&spec.max_unavailable, &spec.min_available) {
        (None, Some(IntOrString::Int(n))) => Some((count(selected), *n)),
        (None, None) => Some((count(selected), 0)),
        _ => None,
    }
}

/// The same out of the scale of the pods' controllers.
pub fn by_scale(spec: &PodDisruptionBudgetSpec, expected: i32) -> (i32, i32) {
    match &spec.max_unavailable {
        Some(most) => {
            let most = scaled(Some(most), expected, Round::Up);
            (expected, (expected - most).max(0))
        }
        None => (
            expected,
            scaled(spec.min_available.as_ref(), expected, Round::Up),
        ),
    }
}

/// The status of a budget, and when the next eviction under way times out.
pub fn status(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    expected: i32,
    desired: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let (disrupted, next) = disrupted(&before, selected, now);
    let healthy = selected.iter().filter(|p| {
        let evicting = disrupted.contains_key(p.name());
        !p.deleting() && pods::ready(p) && !evicting
    });
    let healthy = count(healthy.count());
    let mut allowed = (healthy - desired).max(0);
    if expected <= 0 {
        allowed = 0;
    }
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: Some(budget.generation()),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: before.conditions,
    };
    let (state, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    set_condition(&mut status, budget.generation(), state, reason, "", now);
    (status, next)
}

/// The status of a budget that cannot be computed: nothing may be evicted.
pub fn failed(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set_condition(
        &mut status,
        budget.generation(),
        "False",
        "SyncFailed",
        why,
        now,
    );
    status
}

/// Evictions that the API server allowed and that are still under way.
fn disrupted(
    before: &PodDisruptionBudgetStatus,
    selected: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut next: Option<i64> = None;
    for (name, since) in before.disrupted_pods.iter().flatten() {
        let left = since.0.as_second() + DELETION_TIMEOUT - now.as_second();
        let there = selected.iter().any(|p| p.name() == name && !p.deleting());
        if there && left > 0 {
            kept.insert(name.clone(), since.clone());
            next = Some(next.map_or(left, |n| n.min(left)));
        }
    }
    let next = next
        .and_then(|n| u64::try_from(n).ok())
        .map(Duration::from_secs);
    (kept, next)
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    generation: i64,
    state: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    const KIND: &str = "DisruptionAllowed";
    let all = status.conditions.get_or_insert_default();
    let known = all.iter().find(|c| c.type_ == KIND && c.status == state);
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let since = known.map_or(Time(second), |c| c.last_transition_time.clone());
    let new = Condition {
        type_: KIND.into(),
        status: state.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match all.iter_mut().find(|c| c.type_ == KIND) {
        Some(c) => *c = new,
        None => all.push(new),
    }
}

/// How long until a pod that is marked as disrupted, but is not, loses the mark.
pub fn stale_target(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let target = pods::condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    let kubelets = target.reason.as_deref() == Some("TerminationByKubelet");
    if kubelets || pod.deleting() || pods::terminal(pod) {
        return None;
    }
    let since = target.last_transition_time.as_ref()?.0;
    let left = since.as_second() + DELETION_TIMEOUT - now.as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Whether two statuses say the same.
pub fn same_status(a: &PodDisruptionBudgetStatus, b: &PodDisruptionBudgetStatus) -> bool {
    let n = |o: Option<i32>| o.unwrap_or(0);
    let numbers = |s: &PodDisruptionBudgetStatus| {
        let all = [
            s.current_healthy,
            s.desired_healthy,
            s.expected_pods,
            s.disruptions_allowed,
        ];
        all.map(n)
    };
    let pods = |s: &PodDisruptionBudgetStatus| s.disrupted_pods.clone().unwrap_or_default();
    numbers(a) == numbers(b)
        && a.observed_generation == b.observed_generation
        && a.conditions == b.conditions
        && pods(a) == pods(b)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(spec: &Value, status: &Value) -> PodDisruptionBudget {
        let v = json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status});
        serde_json::from_value(v).unwrap()
    }

    fn ready(name: &str) -> Arc<Pod> {
        let v = json!({"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        Arc::new(serde_json::from_value(v).unwrap())
    }

    #[test]
    fn numbers_and_percentages_give_what_is_desired() {
        let spec = |v: Value| budget(&v, &json!({})).spec.unwrap();
        assert_eq!(
            by_number(&spec(json!({"minAvailable": 2})), 5),
            Some((5, 2))
        );
        assert_eq!(by_number(&spec(json!({"minAvailable": "50%"})), 5), None);
        assert_eq!(by_scale(&spec(json!({"minAvailable": "50%"})), 5), (5, 3));
        assert_eq!(by_scale(&spec(json!({"maxUnavailable": 1})), 5), (5, 4));
        assert_eq!(by_scale(&spec(json!({"maxUnavailable": "30%"})), 5), (5, 3));
    }

    #[test]
    fn evictions_under_way_count_as_unhealthy_until_they_time_out() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let b = budget(
            &json!({"minAvailable": 1}),
            &json!({"disruptedPods": {
            "a": "2026-01-01T00:00:30Z", "b": "2025-12-31T00:00:00Z", "gone": "2026-01-01T00:00:30Z"}}),
        );
        let pods = [ready("a"), ready("b"), ready("c")];
        let (s, next) = status(&b, &pods, 3, 1, now);
        assert_eq!(
            (s.current_healthy, s.disruptions_allowed),
            (Some(2), Some(1))
        );
        assert_eq!(s.disrupted_pods.unwrap().keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(next, Some(Duration::from_secs(90)));
        let c = &s.conditions.unwrap()[0];
        assert_eq!(
            (c.status.as_str(), c.reason.as_str()),
            ("True", "SufficientPods")
        );
        let (s, _) = status(&b, &[], 0, 1, now);
        assert_eq!(s.disruptions_allowed, Some(0));
    }
}
