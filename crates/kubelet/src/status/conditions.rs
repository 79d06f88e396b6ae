//! Conditions of a pod. Upstream: pkg/kubelet/status/generate.go.

use api::core::v1::{Container, ContainerStatus, PodCondition, PodStatus};
use api::meta::Time;

use super::{Input, by_name, is_started};
use crate::pod;

/// Condition types that only the kubelet writes.
pub const OWNED: &[&str] = &[
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizeInProgress",
    "PodResizePending",
    "AllContainersRestarting",
];

struct Draft {
    kind: &'static str,
    status: bool,
    reason: Option<String>,
    message: Option<String>,
}

fn draft(kind: &'static str, status: bool) -> Draft {
    Draft {
        kind,
        status,
        reason: None,
        message: None,
    }
}

impl Draft {
    fn because(self, reason: &str, message: Option<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            message,
            ..self
        }
    }
}

/// All conditions: those of others first, then the kubelet's. `phase` is what the containers mean.
pub fn all(i: &Input<'_>, status: &PodStatus, phase: String) -> Vec<PodCondition> {
    let in_api = i.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let known: Vec<&PodCondition> = i.old.conditions.iter().flatten().collect();
    let foreign = in_api.into_iter().flatten();
    let mut out: Vec<PodCondition> = foreign
        .filter(|c| !OWNED.contains(&c.type_.as_str()) && c.type_ != "DisruptionTarget")
        .cloned()
        .collect();
    let disruption = known
        .iter()
        .copied()
        .chain(in_api.into_iter().flatten())
        .find(|c| c.type_ == "DisruptionTarget");
    let own_disruption = i.verdict.filter(|v| v.disruption && i.finished);
    match (own_disruption, disruption) {
        (Some(v), _) => {
            let d = draft("DisruptionTarget", true)
                .because("TerminationByKubelet", Some(v.message.clone()));
            out.push(finish(i, &known, d));
        }
        (None, Some(kept)) => out.push(kept.clone()),
        (None, None) => {}
    }
    if let Some(r) = i.resize {
        let d = draft("PodResizePending", true).because(r.reason, Some(r.message.clone()));
        out.push(finish(i, &known, d));
    }
    if let Some(why) = i.resize_error {
        let d = draft("PodResizeInProgress", true).because("Error", Some(why.into()));
        out.push(finish(i, &known, d));
    }
    let containers_ready = containers_ready(i, status, &phase);
    let ready = ready(i, status, &containers_ready);
    let drafts = [
        ready_to_start(i),
        initialized(i, status, &phase),
        ready,
        containers_ready,
        draft("PodScheduled", true),
    ];
    out.extend(drafts.into_iter().map(|d| finish(i, &known, d)));
    out
}

fn finish(i: &Input<'_>, known: &[&PodCondition], d: Draft) -> PodCondition {
    let status = if d.status { "True" } else { "False" };
    let api = i.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let before = known
        .iter()
        .copied()
        .chain(api.into_iter().flatten())
        .find(|c| c.type_ == d.kind);
    let since = before
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: d.kind.into(),
        status: status.into(),
        reason: d.reason,
        message: d.message.filter(|m| !m.is_empty()),
        last_transition_time: since.or_else(|| Some(Time(pod::seconds(i.now)))),
        last_probe_time: None,
        observed_generation: i.pod.metadata.generation,
    }
}

fn ready_to_start(i: &Input<'_>) -> Draft {
    let host = pod::is_host_network(i.pod);
    let sandbox = i.seen.ready_sandbox();
    let ok = sandbox.is_some_and(|s| host || !s.ips.is_empty());
    draft("PodReadyToStartContainers", ok)
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn initialized(i: &Input<'_>, status: &PodStatus, phase: &str) -> Draft {
    let d = |ok| draft("Initialized", ok);
    let list = pod::init_containers(i.pod);
    if phase == "Succeeded" {
        return d(true).because("PodCompleted", None);
    }
    let statuses = by_name(status.init_container_statuses.as_ref());
    let main = status.container_statuses.iter().flatten();
    let mut started = main.filter(|s| was_started(s));
    if list.is_empty() || started.next().is_some() {
        return d(true);
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for c in list {
        match statuses.get(c.name.as_str()) {
            None => unknown.push(c.name.as_str()),
            Some(s) if is_complete(c, s) => {}
            Some(_) => incomplete.push(c.name.as_str()),
        }
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!(
            "containers with unknown status: {}",
            names(&unknown)
        ));
    }
    if !incomplete.is_empty() {
        parts.push(format!(
            "containers with incomplete status: {}",
            names(&incomplete)
        ));
    }
    if parts.is_empty() {
        return d(true);
    }
    d(false).because("ContainersNotInitialized", Some(parts.join(", ")))
}

fn was_started(s: &ContainerStatus) -> bool {
    let running = s.state.as_ref().is_some_and(|st| st.running.is_some());
    let ended = s.state.as_ref().is_some_and(|st| {
        st.terminated
            .as_ref()
            .is_some_and(|t| t.reason.as_deref() != Some("ContainerStatusUnknown"))
    });
    running || ended || s.restart_count > 0 || s.last_state.is_some()
}

fn is_complete(c: &Container, s: &ContainerStatus) -> bool {
    if pod::is_sidecar(c) {
        is_started(s)
    } else {
        s.ready
    }
}

fn containers_ready(i: &Input<'_>, status: &PodStatus, phase: &str) -> Draft {
    let d = |ok| draft("ContainersReady", ok);
    match phase {
        "Succeeded" => return d(false).because("PodCompleted", None),
        "Failed" => return d(false).because("PodFailed", None),
        _ => {}
    }
    let main = by_name(status.container_statuses.as_ref());
    let init = by_name(status.init_container_statuses.as_ref());
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for c in pod::probed_containers(i.pod) {
        let name = c.name.as_str();
        match main.get(name).or_else(|| init.get(name)) {
            None => unknown.push(name),
            Some(s) if s.ready => {}
            Some(_) => unready.push(name),
        }
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!(
            "containers with unknown status: {}",
            names(&unknown)
        ));
    }
    if !unready.is_empty() {
        parts.push(format!(
            "containers with unready status: {}",
            names(&unready)
        ));
    }
    if parts.is_empty() {
        return d(true);
    }
    d(false).because("ContainersNotReady", Some(parts.join(", ")))
}

fn ready(i: &Input<'_>, status: &PodStatus, containers: &Draft) -> Draft {
    if !containers.status {
        return Draft {
            kind: "Ready",
            status: false,
            reason: containers.reason.clone(),
            message: containers.message.clone(),
        };
    }
    let api = i.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let own = status.conditions.as_ref();
    let find = |kind: &str| {
        let all = api.into_iter().flatten().chain(own.into_iter().flatten());
        all.into_iter().find(|c| c.type_ == kind)
    };
    let gates = pod::spec(i.pod).readiness_gates.iter().flatten();
    let wrong: Vec<String> = gates
        .filter_map(|g| match find(&g.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                g.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                g.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    if wrong.is_empty() {
        return draft("Ready", true);
    }
    draft("Ready", false).because("ReadinessGatesNotReady", Some(wrong.join(", ")))
}
