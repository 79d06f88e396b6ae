//! The annotations that tie a deployment and its ReplicaSets together.
//! Upstream: pkg/controller/deployment/util.

use std::collections::BTreeMap;

use api::apps::v1::{Deployment, ReplicaSet};

use super::plan;
use crate::common::object::Object;
use crate::limits;

/// Number of a rollout.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a ReplicaSet that was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the deployment when the ReplicaSet was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That plus the surge.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Asks for a rollback, as extensions/v1beta1 did.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether a deployment's annotation is not copied to its ReplicaSets.
fn private(key: &str) -> bool {
    [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, ROLLBACK_TO].contains(&key)
}

/// The revision of an object, if it has a readable one.
pub fn revision<K: Object>(object: &K) -> Option<i64> {
    object.annotations().get(REVISION)?.parse().ok()
}

/// The revision a rollback is asked to; 0 is the one before.
pub fn rollback_to(d: &Deployment) -> Option<i64> {
    d.annotations().get(ROLLBACK_TO)?.parse().ok()
}

/// A number in an annotation.
pub fn number(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.annotations().get(key)?.parse().ok()
}

fn put(map: &mut BTreeMap<String, String>, key: &str, value: String) -> bool {
    if map.get(key) == Some(&value) {
        return false;
    }
    map.insert(key.into(), value);
    true
}

/// Brings the new ReplicaSet's annotations in line with the deployment; tells whether any changed.
pub fn refresh_new(d: &Deployment, set: &mut ReplicaSet, new_revision: i64, exists: bool) -> bool {
    let mut changed = false;
    let known = revision(set);
    let map = set.metadata.annotations.get_or_insert_default();
    for (key, value) in d.annotations() {
        if !private(key) {
            changed |= put(map, key, value.clone());
        }
    }
    if known.unwrap_or(0) < new_revision {
        let before = map.insert(REVISION.into(), new_revision.to_string());
        changed = true;
        if let Some(before) = before.filter(|_| known.is_some()) {
            let history = map.get(HISTORY).map_or("", String::as_str);
            let history = longer_history(history, &before);
            map.insert(HISTORY.into(), history);
        }
    }
    if !exists {
        changed |= refresh_sizes(d, set);
    }
    changed
}

/// The list of earlier revisions with one more; the oldest leave when it grows too long.
fn longer_history(history: &str, revision: &str) -> String {
    if history.is_empty() {
        return revision.into();
    }
    let mut rest = history;
    while rest.len() + 1 + revision.len() > limits::REVISION_HISTORY_CHARS {
        match rest.split_once(',') {
            Some((_, later)) => rest = later,
            None => return revision.into(),
        }
    }
    format!("{rest},{revision}")
}

/// Notes the deployment's size on a ReplicaSet; tells whether anything changed.
pub fn refresh_sizes(d: &Deployment, set: &mut ReplicaSet) -> bool {
    let map = set.metadata.annotations.get_or_insert_default();
    let desired = plan::replicas(d);
    let a = put(map, DESIRED, desired.to_string());
    let b = put(map, MAX, (desired + plan::max_surge(d)).to_string());
    a || b
}

/// Sets the deployment's own revision; tells whether it changed.
pub fn set_revision(d: &mut Deployment, revision: &str) -> bool {
    let map = d.metadata.annotations.get_or_insert_default();
    put(map, REVISION, revision.into())
}

/// Takes a ReplicaSet's annotations over to a deployment that is rolled back to it.
pub fn restore(d: &mut Deployment, set: &ReplicaSet) {
    let own = d.metadata.annotations.take().unwrap_or_default();
    let mut restored: BTreeMap<String, String> =
        own.into_iter().filter(|(k, _)| private(k)).collect();
    for (key, value) in set.annotations() {
        if !private(key) {
            restored.insert(key.clone(), value.clone());
        }
    }
    d.metadata.annotations = Some(restored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_rolled_back_to_keeps_its_earlier_numbers() {
        let d = Deployment::default();
        let mut set = ReplicaSet::default();
        assert!(refresh_new(&d, &mut set, 1, true));
        assert_eq!(set.annotations().get(HISTORY), None);
        assert!(!refresh_new(&d, &mut set, 1, true));
        refresh_new(&d, &mut set, 3, true);
        refresh_new(&d, &mut set, 7, true);
        assert_eq!(set.annotation(REVISION), "7");
        assert_eq!(set.annotation(HISTORY), "1,3");
    }

    #[test]
    fn history_forgets_its_oldest_when_full() {
        let long = vec!["1234567"; 250].join(",");
        let longer = longer_history(&long, "99");
        assert!(longer.len() <= limits::REVISION_HISTORY_CHARS);
        assert!(longer.ends_with(",99"));
    }
}
