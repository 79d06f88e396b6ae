//! Requests and limits: quality of service, cgroup values, what a pod asks of the node.
//! Upstream: pkg/kubelet/cm helpers, pkg/kubelet/qos, component-helpers resource.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod, ResourceRequirements};
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::quantity::Quantity;
use cri::{LinuxContainerResources, LinuxPodResources};

use crate::pod;

const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const QUOTA_PERIOD: i64 = 100_000;
const QUOTA_MIN: i64 = 1_000;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Upstream's three classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

// === Qos ===

impl Qos {
    /// As in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Which part of the requirements is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

/// One amount of a requirements; `None` where it is not given.
pub fn amount(r: Option<&ResourceRequirements>, side: Side, name: &str) -> Option<Quantity> {
    let map = match side {
        Side::Requests => r?.requests.as_ref(),
        Side::Limits => r?.limits.as_ref(),
    };
    map?.get(name).and_then(|q| Quantity::parse(&q.0).ok())
}

/// Typed quantities of a map; those that do not parse were refused by the API server.
pub fn amounts(map: Option<&BTreeMap<String, Text>>) -> Amounts {
    let entries = map.into_iter().flatten();
    entries
        .filter_map(|(k, q)| Some((k.clone(), Quantity::parse(&q.0).ok()?)))
        .collect()
}

/// Class of a pod: the one the API server noted, else from the spec.
pub fn qos(p: &Pod) -> Qos {
    let noted = p.status.as_ref().and_then(|s| s.qos_class.as_deref());
    match noted {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => qos_of_spec(p),
    }
}

fn qos_of_spec(p: &Pod) -> Qos {
    let level = pod::spec(p).resources.as_ref();
    let whole: Vec<Option<&ResourceRequirements>> =
        if level.is_some_and(|r| r.requests.is_some() || r.limits.is_some()) {
            vec![level]
        } else {
            let all = pod::init_containers(p).iter().chain(pod::containers(p));
            all.map(|c| c.resources.as_ref()).collect()
        };
    let positive = |r, side, name| amount(r, side, name).is_some_and(|q| q.sign() > 0);
    let any = whole.iter().any(|r| {
        ["cpu", "memory"]
            .iter()
            .any(|n| positive(*r, Side::Requests, n) || positive(*r, Side::Limits, n))
    });
    if !any {
        return Qos::BestEffort;
    }
    let guaranteed = whole.iter().all(|r| {
        ["cpu", "memory"].iter().all(|n| {
            let limit = amount(*r, Side::Limits, n);
            let request = amount(*r, Side::Requests, n).or(limit);
            positive(*r, Side::Limits, n) && limit == request
        })
    });
    if guaranteed {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What a pod asks for or may use: the greater of its main containers with sidecars and each
/// init container with the sidecars before it, or the pod's own amounts, plus overhead.
pub fn pod_amounts(p: &Pod, side: Side) -> Amounts {
    let of = |c: &Container| {
        let r = c.resources.as_ref();
        amounts(match side {
            Side::Requests => r.and_then(|r| r.requests.as_ref()),
            Side::Limits => r.and_then(|r| r.limits.as_ref()),
        })
    };
    let mut total = Amounts::new();
    for c in pod::containers(p) {
        add(&mut total, &of(c));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in pod::init_containers(p) {
        let mut here = of(c);
        if pod::is_sidecar(c) {
            add(&mut total, &here);
            add(&mut sidecars, &here);
            here = sidecars.clone();
        } else {
            add(&mut here, &sidecars);
        }
        raise(&mut peak, &here);
    }
    raise(&mut total, &peak);
    if let Some(level) = &pod::spec(p).resources {
        total.extend(amounts(match side {
            Side::Requests => level.requests.as_ref(),
            Side::Limits => level.limits.as_ref(),
        }));
    }
    if let Some(overhead) = &pod::spec(p).overhead {
        let overhead = amounts(Some(overhead));
        match side {
            Side::Requests => add(&mut total, &overhead),
            Side::Limits => {
                for (name, q) in &overhead {
                    if let Some(t) = total.get_mut(name) {
                        *t = t.add(q);
                    }
                }
            }
        }
    }
    total
}

/// Adds amounts up.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, q) in more {
        let t = total.entry(name.clone()).or_insert(Quantity::ZERO);
        *t = t.add(q);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, q) in other {
        let t = total.entry(name.clone()).or_insert(*q);
        if *q > *t {
            *t = *q;
        }
    }
}

/// cpu.shares of a request in thousandths.
pub fn shares(milli: i64) -> i64 {
    if milli <= 0 {
        return SHARES_MIN;
    }
    (milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// cpu.cfs_quota_us of a limit in thousandths; 0 is no limit.
pub fn quota(milli: i64) -> i64 {
    if milli <= 0 {
        return 0;
    }
    (milli.saturating_mul(QUOTA_PERIOD) / 1000).max(QUOTA_MIN)
}

/// oom_score_adj of a container.
pub fn oom_score_adj(p: &Pod, c: &Container, node_memory: i64) -> i64 {
    if pod::spec(p).priority.unwrap_or(0) >= 2_000_001_000 {
        return -997;
    }
    match qos(p) {
        Qos::Guaranteed => return -997,
        Qos::BestEffort => return 1000,
        Qos::Burstable => {}
    }
    let request = |c: &Container| {
        amount(c.resources.as_ref(), Side::Requests, "memory").map_or(0, |q| q.value())
    };
    let mut adj = score(request(c), node_memory);
    let sidecar = pod::is_sidecar(c) && pod::init_containers(p).iter().any(|i| i.name == c.name);
    if sidecar {
        // A sidecar must not be killed before the main containers it serves.
        let least = pod::containers(p).iter().map(request).min().unwrap_or(0);
        adj = adj.min(score(least, node_memory));
    }
    adj
}

fn score(request: i64, node_memory: i64) -> i64 {
    let part = i128::from(request) * 1000 / i128::from(node_memory.max(1));
    (1000 - part as i64).clamp(3, 999)
}

/// Limits of one container as the runtime wants them.
pub fn container_resources(p: &Pod, c: &Container, node_memory: i64) -> LinuxContainerResources {
    let r = c.resources.as_ref();
    let level = pod::spec(p).resources.as_ref();
    let cpu = |side| amount(r, side, "cpu").map(|q| q.milli_value());
    let limit =
        cpu(Side::Limits).or_else(|| amount(level, Side::Limits, "cpu").map(|q| q.milli_value()));
    let request = cpu(Side::Requests).or(cpu(Side::Limits));
    let memory =
        amount(r, Side::Limits, "memory").or_else(|| amount(level, Side::Limits, "memory"));
    LinuxContainerResources {
        cpu_period: QUOTA_PERIOD,
        cpu_quota: quota(limit.unwrap_or(0)),
        cpu_shares: shares(request.unwrap_or(0)),
        memory_limit_bytes: memory.map_or(0, |q| q.value()),
        oom_score_adj: oom_score_adj(p, c, node_memory),
        ..LinuxContainerResources::default()
    }
}

/// Limits of the pod's cgroup. Limits apply only where every container has one.
pub fn pod_resources(p: &Pod, pids_limit: i64) -> LinuxPodResources {
    let requests = pod_amounts(p, Side::Requests);
    let limits = pod_amounts(p, Side::Limits);
    let level = pod::spec(p).resources.as_ref();
    let bounded = |name: &str| {
        amount(level, Side::Limits, name).is_some_and(|q| q.sign() > 0)
            || pod::init_containers(p)
                .iter()
                .chain(pod::containers(p))
                .all(|c| {
                    amount(c.resources.as_ref(), Side::Limits, name).is_some_and(|q| q.sign() > 0)
                })
    };
    let limit = |name: &str| limits.get(name).filter(|_| bounded(name)).copied();
    let request = requests.get("cpu").or(limits.get("cpu"));
    let shares_of = match qos(p) {
        Qos::BestEffort => SHARES_MIN,
        _ => shares(request.map_or(0, Quantity::milli_value)),
    };
    LinuxPodResources {
        cpu_shares: u64::try_from(shares_of).unwrap_or(2),
        cpu_quota: quota(limit("cpu").map_or(0, |q| q.milli_value())),
        memory_limit_bytes: limit("memory").map_or(0, |q| q.value()),
        pids_limit,
    }
}

/// Where the pod's cgroup lives below the node's root.
pub fn cgroup_parent(p: &Pod) -> String {
    let uid = pod::uid(p);
    match qos(p) {
        Qos::Guaranteed => format!("kubepods/pod{uid}"),
        Qos::Burstable => format!("kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("kubepods/besteffort/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod_with(resources: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata":{"uid":"u"},
            "spec":{"containers":[{"name":"a","resources":resources}]}}))
        .unwrap()
    }

    #[test]
    fn class_shares_quota_and_score() {
        let gib = 1 << 30;
        let cases = [
            (json!({}), Qos::BestEffort, (2, 0, 0, 1000)),
            (
                json!({"requests":{"cpu":"250m","memory":"32Mi"},"limits":{"cpu":"1250m","memory":"64Mi"}}),
                Qos::Burstable,
                (256, 125_000, 64 << 20, 969),
            ),
            (
                json!({"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"1","memory":"64Mi"}}),
                Qos::Guaranteed,
                (1024, 100_000, 64 << 20, -997),
            ),
            (
                json!({"limits":{"cpu":"5m"}}),
                Qos::Burstable,
                (5, 1000, 0, 999),
            ),
        ];
        for (resources, class, want) in cases {
            let p = pod_with(resources);
            assert_eq!(qos(&p), class);
            let r = container_resources(&p, &pod::containers(&p)[0], gib);
            let got = (
                r.cpu_shares,
                r.cpu_quota,
                r.memory_limit_bytes,
                r.oom_score_adj,
            );
            assert_eq!(got, want, "{class:?}");
        }
    }

    #[test]
    fn pod_limits_need_every_container() {
        let p: Pod = serde_json::from_value(json!({"metadata":{"uid":"u"},"spec":{"containers":[
            {"name":"a","resources":{"limits":{"cpu":"1","memory":"1Mi"}}},
            {"name":"b","resources":{"limits":{"cpu":"1"}}}]}}))
        .unwrap();
        let r = pod_resources(&p, 0);
        assert_eq!((r.cpu_quota, r.memory_limit_bytes), (200_000, 0));
    }

    #[test]
    fn init_containers_raise_and_sidecars_add() {
        let p: Pod = serde_json::from_value(json!({"spec":{
            "initContainers":[
                {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"100m"}}},
                {"name":"i","resources":{"requests":{"cpu":"1"}}}],
            "containers":[{"name":"a","resources":{"requests":{"cpu":"200m"}}}],
            "overhead":{"cpu":"10m"}}}))
        .unwrap();
        let total = pod_amounts(&p, Side::Requests);
        assert_eq!(total["cpu"].milli_value(), 1110);
    }
}
