//! What controllers ask about pods, and pods made from templates.
//! Upstream: pkg/api/v1/pod, pkg/controller/controller_utils.go.

use std::cmp::Ordering;
use std::time::Duration;

use api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use api::meta::{ObjectMeta, OwnerReference};
use jiff::Timestamp;

use crate::common::object::Object;

/// The annotation that makes a pod cheaper or dearer to delete.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `status.phase`.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or("")
}

/// Whether all containers ended for good.
pub fn terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither ended nor being deleted.
pub fn active(pod: &Pod) -> bool {
    !terminal(pod) && !pod.deleting()
}

/// Being deleted and not ended.
pub fn terminating(pod: &Pod) -> bool {
    !terminal(pod) && pod.deleting()
}

/// A condition by type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether condition Ready is true.
pub fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// Ready for at least so long.
pub fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    ready(pod) && becomes_available(pod, min_ready_seconds, now).is_none()
}

/// How long until a ready pod is available; `None` when it is, or is not ready.
pub fn becomes_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 || !ready(pod) {
        return None;
    }
    // A ready pod without a time counts as never available, as upstream.
    let since = ready_since(pod).unwrap_or(now);
    let at = since.as_nanosecond() + i128::from(min_ready_seconds) * 1_000_000_000;
    let left = at - now.as_nanosecond();
    u64::try_from(left)
        .ok()
        .filter(|n| *n > 0)
        .map(Duration::from_nanos)
}

/// The node the pod is bound to, `""` if none.
pub fn node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref()).unwrap_or("")
}

/// The node that an entry of a pod is bound to, without parsing it.
pub fn node_of(entry: &client::Entry) -> Option<&str> {
    let mut fields = entry.fields.iter();
    let found = fields.find(|(k, _)| *k == "spec.nodeName");
    found.map(|(_, v)| &**v).filter(|v| !v.is_empty())
}

/// Restarts of regular containers, and of sidecars.
pub fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let sidecar = |name: &str| {
        let init = pod
            .spec
            .iter()
            .flat_map(|s| s.init_containers.iter().flatten());
        init.into_iter()
            .any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    let regular = status.container_statuses.iter().flatten();
    let init = status.init_container_statuses.iter().flatten();
    (
        regular.map(|c| c.restart_count).sum(),
        init.filter(|c| sidecar(&c.name))
            .map(|c| c.restart_count)
            .sum(),
    )
}

/// A pod of a template, owned by `owner`. Its name is left to the server.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix(&owner.name)),
            namespace: Some(namespace.into()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix of pod names: with a dash, unless that makes it invalid.
fn prefix(owner: &str) -> String {
    let dashed = format!("{owner}-");
    if api::names::subdomain_name(&dashed, true).is_empty() {
        dashed
    } else {
        owner.to_string()
    }
}

/// How many pods of the same and of related owners are on a pod's node.
pub type Crowd<'a> = &'a dyn Fn(&Pod) -> usize;

/// Which of two pods is deleted first: `Less` is `a`. Upstream: ActivePodsWithRanks.
pub fn deletion_order(a: &Pod, b: &Pod, crowd: Crowd<'_>, now: Timestamp) -> Ordering {
    basic_order(a, b)
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| ready_time_order(a, b, now, log_age))
        .then_with(|| restart_order(a, b))
        .then_with(|| {
            let age = |p: &Pod| log_age(p.created(), now);
            age(a).cmp(&age(b)).then_with(|| a.uid().cmp(b.uid()))
        })
}

/// Which of two pods a Job deletes first. Upstream: ActivePods.
pub fn plain_deletion_order(a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let exact = |t: Timestamp, now: Timestamp| now.as_nanosecond() - t.as_nanosecond();
    basic_order(a, b)
        .then_with(|| ready_time_order(a, b, now, exact))
        .then_with(|| restart_order(a, b))
        .then_with(|| b.created().cmp(&a.created()))
}

fn basic_order(a: &Pod, b: &Pod) -> Ordering {
    let assigned = |p: &Pod| !node(p).is_empty();
    let rank = |p: &Pod| match phase(p) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| rank(a).cmp(&rank(b)))
        .then_with(|| ready(a).cmp(&ready(b)))
}

fn ready_time_order<T: Ord>(
    a: &Pod,
    b: &Pod,
    now: Timestamp,
    age: impl Fn(Timestamp, Timestamp) -> T,
) -> Ordering {
    if !ready(a) || !ready(b) {
        return Ordering::Equal;
    }
    match (ready_since(a), ready_since(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(x), Some(y)) => age(x, now).cmp(&age(y, now)),
    }
}

fn restart_order(a: &Pod, b: &Pod) -> Ordering {
    restarts(b).cmp(&restarts(a))
}

/// Ages that differ by less than a factor of two count alike, so that deletions spread.
fn log_age(t: Timestamp, now: Timestamp) -> u32 {
    let age = now.as_nanosecond() - t.as_nanosecond();
    u128::try_from(age)
        .ok()
        .filter(|a| *a > 0)
        .map_or(0, |a| a.ilog2() + 1)
}

fn cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, more: &serde_json::Value) -> Pod {
        let mut v = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
        json_patch::merge(&mut v, more);
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let unassigned = pod("unassigned", &json!({"spec": {"nodeName": null}}));
        let pending = pod("pending", &json!({"status": {"phase": "Pending"}}));
        let unready = pod("unready", &json!({"status": {"conditions": []}}));
        let cheap = pod(
            "cheap",
            &json!({"metadata": {"annotations": {DELETION_COST: "-5"}}}),
        );
        let crowded = pod("crowded", &json!({"spec": {"nodeName": "full"}}));
        let young = pod(
            "young",
            &json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:50Z"}]}}),
        );
        let plain = pod("z", &json!({}));
        let mut all = [
            &plain,
            &young,
            &crowded,
            &cheap,
            &unready,
            &pending,
            &unassigned,
        ];
        let crowd = |p: &Pod| if node(p) == "full" { 3 } else { 1 };
        all.sort_by(|a, b| deletion_order(a, b, &crowd, now));
        let names: Vec<&str> = all.iter().map(|p| p.name()).collect();
        let wanted = [
            "unassigned",
            "pending",
            "unready",
            "cheap",
            "crowded",
            "young",
            "z",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_pod_is_available_after_its_ready_seconds() {
        let p = pod("p", &json!({}));
        let at = |s: &str| -> Timestamp { s.parse().unwrap() };
        assert!(available(&p, 0, at("2026-01-01T00:00:10Z")));
        assert!(!available(&p, 10, at("2026-01-01T00:00:19Z")));
        assert!(available(&p, 10, at("2026-01-01T00:00:20Z")));
        let left = becomes_available(&p, 10, at("2026-01-01T00:00:19Z"));
        assert_eq!(left, Some(Duration::from_secs(1)));
    }
}
