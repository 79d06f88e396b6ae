//! Resources of running pods that change: what is asked, what is allocated, what to do.
//! Upstream: pkg/kubelet/allocation, kuberuntime doPodResizeAction. KEP-1287.

use api::core::v1::{Container, Pod, ResourceRequirements};
use cri::{ContainerState, ContainerStatus, LinuxContainerResources};
use serde_json::{Value, json};

use crate::observed::Observed;
use crate::pod;
use crate::resources;

/// A resize that cannot be carried out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
}

/// One running container whose limits have to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: String,
    pub name: String,
    pub resources: LinuxContainerResources,
    pub cpu: bool,
    pub memory: bool,
    /// Some limit becomes smaller.
    pub shrinks: bool,
}

fn resizable(p: &Pod) -> impl Iterator<Item = &Container> {
    pod::init_containers(p).iter().chain(pod::containers(p))
}

/// cpu and memory of all containers, for comparison.
fn asked(p: &Pod) -> Vec<(&str, Option<&ResourceRequirements>)> {
    resizable(p)
        .map(|c| (c.name.as_str(), c.resources.as_ref()))
        .collect()
}

/// Whether a newer object asks for other resources than the pod has.
pub fn differs(has: &Pod, wants: &Pod) -> bool {
    asked(has) != asked(wants) || pod::spec(has).resources != pod::spec(wants).resources
}

/// The newer object with the resources that the pod has.
pub fn keep_allocated(has: &Pod, wants: &Pod) -> Pod {
    let mut p = wants.clone();
    let Some(spec) = p.spec.as_mut() else {
        return p;
    };
    spec.resources.clone_from(&pod::spec(has).resources);
    let init = spec.init_containers.iter_mut().flatten();
    for c in init.chain(spec.containers.iter_mut()) {
        if let Some(old) = resizable(has).find(|o| o.name == c.name) {
            c.resources.clone_from(&old.resources);
        }
    }
    p
}

/// How a running container differs from what the pod has; `None` where it does not.
pub fn change(p: &Pod, c: &Container, s: &ContainerStatus, node_memory: i64) -> Option<Change> {
    // A runtime that does not tell its limits cannot be compared with.
    if s.state != ContainerState::Running || s.resources == LinuxContainerResources::default() {
        return None;
    }
    let wanted = resources::container_resources(p, c, node_memory);
    let now = &s.resources;
    let cpu = wanted.cpu_shares != now.cpu_shares || wanted.cpu_quota != now.cpu_quota;
    let memory = wanted.memory_limit_bytes != now.memory_limit_bytes;
    if !cpu && !memory {
        return None;
    }
    let smaller = |new: i64, old: i64| new != 0 && (old == 0 || new < old);
    let shrinks = smaller(wanted.cpu_quota, now.cpu_quota)
        || smaller(wanted.memory_limit_bytes, now.memory_limit_bytes);
    Some(Change {
        id: s.id.clone(),
        name: c.name.clone(),
        resources: LinuxContainerResources {
            oom_score_adj: now.oom_score_adj,
            ..wanted
        },
        cpu,
        memory,
        shrinks,
    })
}

/// Whether the container has to be restarted for the change.
pub fn needs_restart(c: &Container, change: &Change) -> bool {
    c.resize_policy.iter().flatten().any(|r| {
        let touched = match r.resource_name.as_str() {
            "cpu" => change.cpu,
            "memory" => change.memory,
            _ => false,
        };
        touched && r.restart_policy == "RestartContainer"
    })
}

/// Changes without restarts; smaller limits first.
pub fn changes(p: &Pod, seen: &Observed, node_memory: i64) -> Vec<Change> {
    let mut all: Vec<Change> = resizable(p)
        .filter_map(|c| {
            let found = change(p, c, seen.latest(&c.name)?, node_memory)?;
            (!needs_restart(c, &found)).then_some(found)
        })
        .collect();
    all.sort_by_key(|c| !c.shrinks);
    all
}

/// What events tell of a resize.
pub fn summary(p: &Pod, error: &str) -> String {
    let list = |all: &[Container]| -> Value {
        let one = |c: &Container| json!({"name": c.name, "resources": c.resources});
        all.iter().map(one).collect()
    };
    let mut out = serde_json::Map::new();
    if !pod::init_containers(p).is_empty() {
        out.insert("initContainers".into(), list(pod::init_containers(p)));
    }
    out.insert("containers".into(), list(pod::containers(p)));
    out.insert("generation".into(), json!(p.metadata.generation));
    if !error.is_empty() {
        out.insert("error".into(), json!(error));
    }
    Value::Object(out).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, sandbox};

    fn pod_of(resources: Value) -> Pod {
        serde_json::from_value(json!({"metadata":{"uid":"u"},"spec":{"containers":[
            {"name":"a","resources":resources,"resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}]}]}}))
        .unwrap()
    }

    #[test]
    fn limits_change_in_place_unless_the_policy_says_restart() {
        let old = pod_of(json!({"requests":{"cpu":"20m"},"limits":{"cpu":"30m","memory":"1Mi"}}));
        let mut s = container("a", "s0", 0, ContainerState::Running, 0);
        s.resources = resources::container_resources(&old, &pod::containers(&old)[0], 1 << 30);
        let seen = Observed::of("u", &[sandbox("s0", "u", 0, true)], &[s.clone()]);
        assert!(changes(&old, &seen, 1 << 30).is_empty());
        let cpu = pod_of(json!({"requests":{"cpu":"20m"},"limits":{"cpu":"15m","memory":"1Mi"}}));
        let got = changes(&cpu, &seen, 1 << 30);
        assert_eq!((got[0].resources.cpu_quota, got[0].shrinks), (1500, true));
        let memory =
            pod_of(json!({"requests":{"cpu":"20m"},"limits":{"cpu":"30m","memory":"2Mi"}}));
        assert!(changes(&memory, &seen, 1 << 30).is_empty());
        let c = &pod::containers(&memory)[0];
        assert!(needs_restart(c, &change(&memory, c, &s, 1 << 30).unwrap()));
        // Values that mean the same to the kernel need nothing.
        let two = pod_of(json!({"requests":{"cpu":"2m"},"limits":{"cpu":"10m"}}));
        let one = pod_of(json!({"requests":{"cpu":"1m"},"limits":{"cpu":"5m"}}));
        s.resources = resources::container_resources(&two, &pod::containers(&two)[0], 1 << 30);
        assert_eq!(change(&one, &pod::containers(&one)[0], &s, 1 << 30), None);
    }

    #[test]
    fn what_does_not_fit_keeps_what_it_has() {
        let has = pod_of(json!({"requests":{"cpu":"1"}}));
        let mut wants = pod_of(json!({"requests":{"cpu":"9"}}));
        wants.metadata.generation = Some(2);
        assert!(differs(&has, &wants));
        let kept = keep_allocated(&has, &wants);
        assert!(!differs(&has, &kept));
        assert_eq!(kept.metadata.generation, Some(2));
    }
}
