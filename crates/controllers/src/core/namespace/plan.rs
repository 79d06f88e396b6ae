//! What remains of a namespace, told in conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{NamespaceCondition, NamespaceStatus, Pod};
use jiff::Timestamp;
use serde::Deserialize;

use crate::common::object::time;
use crate::common::pods;

/// The finalizer that this controller serves.
pub const FINALIZER: &str = "kubernetes";

/// Seconds after which content with finalizers is looked at again (halved).
const FINALIZER_ESTIMATE: u64 = 15;

/// What a pass over a namespace's content found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub errors: Vec<String>,
    /// Seconds until what remains should be gone; `None`: nothing remains.
    pub estimate: Option<u64>,
    /// Why not all that is served could be found out.
    discovery: Option<String>,
    /// Objects left by resource, and by finalizer.
    remaining: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Held {
    metadata: HeldMeta,
}

#[derive(Deserialize)]
struct HeldMeta {
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

// === Outcome ===

impl Outcome {
    /// Pods remain: nothing else may be touched, and the conditions do not speak of them.
    pub fn pods_remain(&mut self, left: &[Arc<Pod>], now: Timestamp) {
        let estimate = left.iter().map(|p| pod_estimate(p, now)).max();
        self.estimate = Some(estimate.unwrap_or(0));
    }

    /// Not all that is served is known: the namespace stays until it is.
    pub fn discovery_failed(&mut self, why: String, groups: usize) {
        self.discovery = Some(match groups {
            0 => why.clone(),
            n => format!("Discovery failed for some groups, {n} failing: {why}"),
        });
        self.errors.push(why);
    }

    /// Notes what is left of a resource (group, version, plural) after its deletion: the finalizers of each object.
    pub fn remain(
        &mut self,
        (group, version, resource): (&str, &str, &str),
        namespace: &str,
        left: &[Vec<String>],
    ) {
        if left.is_empty() {
            return;
        }
        self.remaining
            .insert(format!("{resource}.{group}"), left.len());
        for f in left.iter().flatten() {
            *self.finalizers.entry(f.clone()).or_default() += 1;
        }
        let held = left.iter().any(|f| !f.is_empty());
        let estimate = if held {
            FINALIZER_ESTIMATE
        } else {
            self.errors.push(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {group}/{version}, Resource={resource}"
            ));
            0
        };
        self.estimate = self.estimate.max(Some(estimate));
    }
}

/// The finalizers of an encoded object.
pub fn finalizers(object: &[u8]) -> Vec<String> {
    let parsed: Option<Held> = serde_json::from_slice(object).ok();
    let finalizers = parsed.and_then(|h| h.metadata.finalizers);
    finalizers.unwrap_or_default()
}

fn pod_estimate(pod: &Pod, now: Timestamp) -> u64 {
    if pods::terminal(pod) {
        return 0;
    }
    let spec = pod.spec.as_ref();
    let grace = spec
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(0);
    let since = pod.metadata.deletion_timestamp.as_ref();
    // deletionTimestamp is already the end of the grace period.
    let over = since.is_some_and(|t| now.as_second() > t.0.as_second());
    if over {
        0
    } else {
        u64::try_from(grace).unwrap_or(0)
    }
}

fn counted(map: &BTreeMap<String, usize>, what: &str) -> String {
    let texts: Vec<String> = map
        .iter()
        .map(|(name, n)| format!("{name} {what} {n} resource instances"))
        .collect();
    texts.join(", ")
}

/// Sets the five conditions; tells whether any changed.
pub fn set_conditions(status: &mut NamespaceStatus, outcome: &Outcome, now: Timestamp) -> bool {
    // What discovery failed with has a condition of its own.
    let own = outcome.discovery.as_deref().unwrap_or_default();
    let mut errors = outcome.errors.clone();
    errors.retain(|e| own.is_empty() || !own.ends_with(e.as_str()));
    let content = (!errors.is_empty()).then(|| {
        let n = errors.len();
        let all = errors.join(", ");
        format!("Failed to delete all resource types, {n} remaining: {all}")
    });
    let remaining = (!outcome.remaining.is_empty()).then(|| {
        let all = counted(&outcome.remaining, "has");
        format!("Some resources are remaining: {all}")
    });
    let finalizers = (!outcome.finalizers.is_empty()).then(|| {
        let all = counted(&outcome.finalizers, "in");
        format!("Some content in the namespace has finalizers remaining: {all}")
    });
    let table = [
        (
            "NamespaceDeletionDiscoveryFailure",
            (
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            "DiscoveryFailed",
            outcome.discovery.clone(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            (
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            "GroupVersionParsingFailed",
            None,
        ),
        (
            "NamespaceDeletionContentFailure",
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            "ContentDeletionFailed",
            content,
        ),
        (
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            "SomeResourcesRemain",
            remaining,
        ),
        (
            "NamespaceFinalizersRemaining",
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            "SomeFinalizersRemain",
            finalizers,
        ),
    ];
    let mut changed = false;
    for (kind, (good, text), bad, problem) in table {
        let (state, reason, message) = match problem {
            None => ("False", good, text.to_string()),
            Some(message) => ("True", bad, message),
        };
        changed |= set(status, kind, state, reason, message, now);
    }
    changed
}

fn set(
    status: &mut NamespaceStatus,
    kind: &str,
    state: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let all = status.conditions.get_or_insert_default();
    let new = NamespaceCondition {
        type_: kind.into(),
        status: state.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: time(now),
    };
    match all.iter_mut().find(|c| c.type_ == kind) {
        None => all.push(new),
        Some(c) if c.status == new.status && c.message == new.message && c.reason == new.reason => {
            return false;
        }
        Some(c) => {
            let since = c
                .last_transition_time
                .clone()
                .filter(|_| c.status == new.status);
            *c = new;
            if since.is_some() {
                c.last_transition_time = since;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    #[test]
    fn all_five_conditions_are_written_once() {
        let mut status = NamespaceStatus::default();
        let mut outcome = Outcome::default();
        assert!(set_conditions(&mut status, &outcome, now()));
        assert!(!set_conditions(&mut status, &outcome, now()));
        let all = status.conditions.as_ref().unwrap();
        assert_eq!(all.len(), 5);
        assert!(all.iter().all(|c| c.status == "False"));
        outcome.remaining.insert("pods.".into(), 2);
        outcome.remaining.insert("x.grp".into(), 1);
        outcome.finalizers.insert("f".into(), 1);
        assert!(set_conditions(&mut status, &outcome, now()));
        let text = |i: usize| {
            status.conditions.as_ref().unwrap()[i]
                .message
                .clone()
                .unwrap()
        };
        assert_eq!(
            text(3),
            "Some resources are remaining: pods. has 2 resource instances, x.grp has 1 resource instances"
        );
        assert_eq!(
            text(4),
            "Some content in the namespace has finalizers remaining: f in 1 resource instances"
        );
    }

    #[test]
    fn servers_that_do_not_answer_hold_a_namespace_up() {
        let (mut status, mut outcome) = (NamespaceStatus::default(), Outcome::default());
        outcome.discovery_failed("no list: a/v1: stale".into(), 1);
        outcome.remain(("g", "v1", "things"), "ns", &[vec!["f".into()], vec![]]);
        assert_eq!((outcome.errors.len(), outcome.estimate), (1, Some(15)));
        assert!(set_conditions(&mut status, &outcome, now()));
        let all = status.conditions.as_ref().unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|c| (&*c.status, c.message.as_deref().unwrap()))
            .collect();
        let discovery = "Discovery failed for some groups, 1 failing: no list: a/v1: stale";
        assert_eq!(told[0], ("True", discovery));
        assert_eq!(told[2].0, "False");
        assert_eq!(
            told[3],
            (
                "True",
                "Some resources are remaining: things.g has 2 resource instances"
            )
        );
    }

    #[test]
    fn pods_are_given_their_grace_period() {
        let pod = |phase: &str, deleted: &str| -> Arc<Pod> {
            let v = json!({"metadata": {"name": "p", "deletionTimestamp": deleted},
                "spec": {"containers": [], "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(v).unwrap())
        };
        let mut outcome = Outcome::default();
        outcome.pods_remain(&[pod("Succeeded", "2026-01-01T00:02:00Z")], now());
        assert_eq!(outcome.estimate, Some(0));
        outcome.pods_remain(&[pod("Running", "2026-01-01T00:01:20Z")], now());
        assert_eq!(outcome.estimate, Some(30));
        outcome.pods_remain(&[pod("Running", "2026-01-01T00:00:20Z")], now());
        assert_eq!(outcome.estimate, Some(0));
    }
}
