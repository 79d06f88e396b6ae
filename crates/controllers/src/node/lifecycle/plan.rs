//! What a node's silence means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, NodeCondition, Taint};
use jiff::Timestamp;

use crate::common::object::{Object, time};

/// How long a node may be silent.
pub const GRACE: Duration = Duration::from_secs(50);
/// The same before its first word.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// Nodes of a zone that may be tainted a second.
const RATE: f64 = 0.1;
/// The same in a large zone that is partly down.
const SECONDARY_RATE: f64 = 0.01;
const LARGE_ZONE: usize = 50;
const UNHEALTHY_SHARE: f64 = 0.55;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that mirror into NoSchedule taints: type, status, key.
const CONDITION_TAINTS: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that nobody can vouch for when the kubelet is silent.
const KUBELET_CONDITIONS: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Labels with two names: the one that is set, and the one that follows it.
const LABELS: &[(&str, &str)] = &[
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
];

/// Signs of life of one node.
#[derive(Clone, Debug)]
pub struct Health {
    pub probed: Timestamp,
    heartbeat: Option<Timestamp>,
    renewed: Option<Timestamp>,
    ready: bool,
    /// Whether the node was ready until now and is no longer.
    pub was_ready: bool,
}

/// What a node's Ready condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady,
    Unknown,
}

/// Whether pods are driven out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Eviction {
    /// By this taint, at so many nodes a second.
    Taint(&'static str, f64),
    /// No: all taints of that kind go.
    Clear,
    /// Not decided now: taints stay as they are.
    Leave,
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// The Ready condition; none counts as unknown.
pub fn readiness(node: &Node) -> Readiness {
    match condition(node, "Ready").map(|c| c.status.as_str()) {
        Some("True") => Readiness::Ready,
        Some("False") => Readiness::NotReady,
        _ => Readiness::Unknown,
    }
}

/// Whether a node's pods count as not ready: it says so, or fell silent. A node that has not said
/// anything yet takes nothing back of what its pods say.
pub fn takes_pods_down(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status != "True")
}

/// The health of a node with what was just seen of it.
pub fn probed(
    before: Option<&Health>,
    node: &Node,
    renewed: Option<Timestamp>,
    now: Timestamp,
) -> Health {
    let ready = condition(node, "Ready");
    let heartbeat = ready.and_then(|c| c.last_heartbeat_time.as_ref().map(|t| t.0));
    let is_ready = readiness(node) == Readiness::Ready;
    let probed = match before {
        None if ready.is_none() => node.created(),
        None => now,
        Some(b) if b.heartbeat != heartbeat || renewed > b.renewed => now,
        Some(b) => b.probed,
    };
    Health {
        probed,
        heartbeat,
        renewed,
        ready: is_ready,
        was_ready: before.is_some_and(|b| b.ready) && !is_ready,
    }
}

/// How long a node may still be silent; `None` when it was silent for too long.
pub fn grace_left(node: &Node, health: &Health, now: Timestamp) -> Option<Duration> {
    let never = condition(node, "Ready").is_none();
    let grace = if never { STARTUP_GRACE } else { GRACE };
    let silent = now.as_nanosecond() - health.probed.as_nanosecond();
    let silent = Duration::from_nanos(u64::try_from(silent).unwrap_or(0));
    // A moment more than the difference, so that the next look finds it over.
    let left = grace.checked_sub(silent)?;
    Some(left + Duration::from_millis(10))
}

/// The conditions of a node that is silent; empty where they are told already.
pub fn lost_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let lost = |kind: &&str| match condition(node, kind) {
        None => Some(NodeCondition {
            type_: (*kind).into(),
            status: "Unknown".into(),
            reason: Some("NodeStatusNeverUpdated".into()),
            message: Some("Kubelet never posted node status.".into()),
            last_heartbeat_time: node.metadata.creation_timestamp.clone(),
            last_transition_time: time(seconds(now)),
        }),
        Some(c) if c.status == "Unknown" => None,
        Some(c) => Some(NodeCondition {
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            message: Some("Kubelet stopped posting node status.".into()),
            last_transition_time: time(seconds(now)),
            ..c.clone()
        }),
    };
    KUBELET_CONDITIONS.iter().filter_map(lost).collect()
}

fn seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

/// Region and zone of a node.
pub fn zone(node: &Node) -> String {
    let label = |k: &str| node.labels().get(k).map_or("", String::as_str);
    let region = label("topology.kubernetes.io/region");
    format!("{region}:{}", label("topology.kubernetes.io/zone"))
}

/// Whether a node's pods are driven out, given how all zones are.
pub fn eviction(node: &Node, all: &[Arc<Node>]) -> Eviction {
    let key = match readiness(node) {
        Readiness::Ready => return Eviction::Clear,
        Readiness::NotReady => NOT_READY,
        Readiness::Unknown => UNREACHABLE,
    };
    let mut zones: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let counted = |n: &&Arc<Node>| {
        !n.labels()
            .contains_key("node.kubernetes.io/exclude-disruption")
    };
    for n in all.iter().filter(counted) {
        let (ready, unready) = zones.entry(zone(n)).or_default();
        if readiness(n) == Readiness::Ready {
            *ready += 1;
        } else {
            *unready += 1;
        }
    }
    // Where nothing is ready the fault is likelier to be here than there.
    if zones.values().all(|(ready, _)| *ready == 0) {
        return Eviction::Clear;
    }
    let (ready, unready) = zones.get(&zone(node)).copied().unwrap_or_default();
    let total = ready + unready;
    // Zones are small numbers of nodes: exact in a float.
    #[allow(clippy::cast_precision_loss)]
    let share = unready as f64 / total.max(1) as f64;
    let partial = ready > 0 && unready > 2 && share >= UNHEALTHY_SHARE;
    let rate = match partial {
        false => RATE,
        true if total > LARGE_ZONE => SECONDARY_RATE,
        true => 0.0,
    };
    Eviction::Taint(key, rate)
}

impl Eviction {
    /// The rate of tainting, if this node would get a taint it does not have.
    pub fn new_taint_rate(self, node: &Node) -> Option<f64> {
        let Self::Taint(_, rate) = self else {
            return None;
        };
        let mut has = taints_of(node).iter().filter(|t| t.effect == "NoExecute");
        // One taint for another is no new eviction.
        let known = has.any(|t| t.key == NOT_READY || t.key == UNREACHABLE);
        (!known).then_some(rate)
    }
}

fn taints_of(node: &Node) -> &[Taint] {
    let spec = node.spec.as_ref();
    spec.and_then(|s| s.taints.as_deref()).unwrap_or(&[])
}

/// The taints a node should have; `None` where it has them.
pub fn taints(node: &Node, evicting: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = CONDITION_TAINTS
        .iter()
        .filter(|(kind, status, _)| {
            condition(node, kind).map_or("", |c| c.status.as_str()) == *status
        })
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if node
        .spec
        .as_ref()
        .is_some_and(|s| s.unschedulable == Some(true))
    {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    if condition(node, "Ready").is_none() {
        // A node that has said nothing yet keeps the taint that admission gave it.
        let told = |t: &&Taint| t.effect == "NoSchedule" && t.key == NOT_READY;
        wanted.extend(
            taints_of(node)
                .iter()
                .find(told)
                .map(|_| (NOT_READY, "NoSchedule")),
        );
    }
    if let Eviction::Taint(key, _) = evicting {
        wanted.push((key, "NoExecute"));
    }
    let ours = |t: &Taint| match t.effect.as_str() {
        "NoSchedule" => t.key == UNSCHEDULABLE || CONDITION_TAINTS.iter().any(|c| c.2 == t.key),
        "NoExecute" => evicting != Eviction::Leave && (t.key == NOT_READY || t.key == UNREACHABLE),
        _ => false,
    };
    let have = taints_of(node);
    let is = |t: &Taint, w: &(&str, &str)| t.key == w.0 && t.effect == w.1;
    let mut out: Vec<Taint> = have
        .iter()
        .filter(|t| !ours(t) || wanted.iter().any(|w| is(t, w)))
        .cloned()
        .collect();
    for w in &wanted {
        if !out.iter().any(|t| is(t, w)) {
            out.push(Taint {
                key: w.0.into(),
                effect: w.1.into(),
                value: None,
                time_added: time(seconds(now)),
            });
        }
    }
    (out != have).then_some(out)
}

/// Labels to be set beside their newer names.
pub fn labels(node: &Node) -> Option<BTreeMap<&'static str, String>> {
    let missing = LABELS.iter().filter_map(|(from, to)| {
        let value = node.labels().get(*from)?;
        (node.labels().get(*to) != Some(value)).then(|| (*to, value.clone()))
    });
    let missing: BTreeMap<_, _> = missing.collect();
    (!missing.is_empty()).then_some(missing)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, zone: &str, ready: &str, more: &Value) -> Arc<Node> {
        let mut v = json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
        json_patch::merge(&mut v, more);
        Arc::new(serde_json::from_value(v).unwrap())
    }

    fn at(second: i64) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Timestamp::from_second(start.as_second() + second).unwrap()
    }

    #[test]
    fn silence_beyond_the_grace_period_is_unknown() {
        let n = node("a", "z", "True", &json!({}));
        let h = probed(None, &n, Some(at(0)), at(0));
        let h = probed(Some(&h), &n, Some(at(10)), at(10));
        assert!(grace_left(&n, &h, at(60)).is_some(), "the lease counts");
        let h = probed(Some(&h), &n, Some(at(10)), at(61));
        assert_eq!(grace_left(&n, &h, at(61)), None);
        let lost = lost_conditions(&n, at(61));
        assert_eq!(lost[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(lost[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        let told = node(
            "a",
            "z",
            "Unknown",
            &json!({"status": {"conditions":
            KUBELET_CONDITIONS.iter().map(|k| json!({"type": k, "status": "Unknown"})).collect::<Vec<_>>()}}),
        );
        assert!(lost_conditions(&told, at(62)).is_empty());
    }

    #[test]
    fn zones_decide_about_eviction() {
        let ready = |n: &str, z: &str| node(n, z, "True", &json!({}));
        let lost = |n: &str, z: &str| node(n, z, "Unknown", &json!({}));
        let only = [lost("a", "z")];
        assert_eq!(
            eviction(&only[0], &only),
            Eviction::Clear,
            "all zones are down"
        );
        let two = [lost("a", "z"), ready("b", "z")];
        assert_eq!(eviction(&two[0], &two), Eviction::Taint(UNREACHABLE, RATE));
        assert_eq!(eviction(&two[1], &two), Eviction::Clear);
        let partial = [
            lost("a", "z"),
            lost("b", "z"),
            lost("c", "z"),
            ready("d", "z"),
        ];
        assert_eq!(
            eviction(&partial[0], &partial),
            Eviction::Taint(UNREACHABLE, 0.0)
        );
        let full = [lost("a", "z"), ready("b", "y")];
        assert_eq!(
            eviction(&full[0], &full),
            Eviction::Taint(UNREACHABLE, RATE)
        );
    }

    #[test]
    fn taints_follow_conditions_and_leave_others_alone() {
        let n = node(
            "a",
            "z",
            "False",
            &json!({"spec": {"unschedulable": true, "taints": [
            {"key": "mine", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]}}),
        );
        let keys = |t: Option<Vec<Taint>>| -> Vec<String> {
            t.unwrap()
                .iter()
                .map(|t| format!("{}:{}", t.key, t.effect))
                .collect()
        };
        let got = keys(taints(&n, Eviction::Taint(NOT_READY, RATE), at(0)));
        assert_eq!(
            got,
            [
                "mine:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/unschedulable:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
            ]
        );
        let ready = node(
            "a",
            "z",
            "True",
            &json!({"spec": {"taints": [
            {"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]}}),
        );
        assert_eq!(taints(&ready, Eviction::Clear, at(0)), Some(Vec::new()));
        let silent: Node = serde_json::from_value(json!({"metadata": {"name": "new"},
            "spec": {"taints": [{"key": NOT_READY, "effect": "NoSchedule"}]}}))
        .unwrap();
        assert_eq!(taints(&silent, Eviction::Clear, at(0)), None);
        assert!(!takes_pods_down(&silent), "it said nothing yet");
        assert!(takes_pods_down(&n));
        assert!(!takes_pods_down(&ready));
    }
}
