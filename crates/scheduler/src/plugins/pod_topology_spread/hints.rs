//! Which changes help a pod that spreading kept from its node.

use super::counts;
use crate::node::Node;
use crate::pod::{Pod, Spread};

pub(super) fn pod_helps(pod: &Pod, old: Option<&Pod>, new: Option<&Pod>) -> bool {
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

pub(super) fn node_helps(pod: &Pod, old: Option<&Node>, new: Option<&Node>) -> bool {
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
