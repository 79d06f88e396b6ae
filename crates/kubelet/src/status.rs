//! The status of a pod from what the runtime has. Pure. Upstream: pkg/kubelet/kubelet_pods.go, pkg/kubelet/status.

mod conditions;
mod containers;
mod patch;
mod phase;

pub use patch::status_patch;

use std::collections::{BTreeMap, HashMap};

use api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use api::meta::Time;
use jiff::Timestamp;

use crate::limits;
use crate::observed::Observed;
use crate::pod;
use crate::probes::Results;
use crate::resources;

/// Why a container could not be started the last time: waiting reason and message.
pub type StartErrors = HashMap<String, (String, String)>;

/// What ends a pod from outside: eviction, deadline, preemption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
    /// Also a DisruptionTarget condition.
    pub disruption: bool,
}

/// Everything that a status depends on.
pub struct Input<'a> {
    pub pod: &'a Pod,
    pub seen: &'a Observed,
    /// The status computed before, or the API server's after a restart.
    pub old: &'a PodStatus,
    pub probes: &'a Results,
    pub errors: &'a StartErrors,
    /// Termination messages by container id.
    pub messages: &'a HashMap<String, String>,
    pub runtime: &'a str,
    pub host_ips: &'a [String],
    pub verdict: Option<&'a Verdict>,
    /// A resize that waits.
    pub resize: Option<&'a crate::resize::Pending>,
    /// Why a resize that was begun is not done.
    pub resize_error: Option<&'a str>,
    /// All containers are down for good.
    pub finished: bool,
    pub now: Timestamp,
}

/// A status, and whether the pod is done although the phase may not show it yet.
pub struct Generated {
    pub status: PodStatus,
    pub terminal: bool,
}

/// Computes.
pub fn generate(i: &Input<'_>) -> Generated {
    let mut status = PodStatus {
        init_container_statuses: some(containers::init(i)),
        container_statuses: some(containers::main(i)),
        ephemeral_container_statuses: some(containers::ephemeral(i)),
        host_ip: i.host_ips.first().cloned(),
        host_ips: some(
            i.host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.clone() })
                .collect(),
        ),
        start_time: i
            .old
            .start_time
            .clone()
            .or_else(|| Some(Time(pod::seconds(i.now)))),
        qos_class: Some(resources::qos(i.pod).as_str().into()),
        observed_generation: i.pod.metadata.generation.max(i.old.observed_generation),
        ..PodStatus::default()
    };
    addresses(i, &mut status);
    let decided = decide_phase(i, &mut status);
    if i.finished {
        containers::bound_messages(&mut status);
    }
    let terminal = pod::is_terminal(&decided);
    status.conditions = Some(conditions::all(i, &status, decided));
    Generated { status, terminal }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn addresses(i: &Input<'_>, status: &mut PodStatus) {
    let mut ips: Vec<String> = if pod::is_host_network(i.pod) {
        i.host_ips.to_vec()
    } else {
        i.seen.ips().to_vec()
    };
    if ips.is_empty() {
        // A pod that ended keeps its addresses.
        let old = i.old.pod_ips.iter().flatten();
        ips = old.map(|p| p.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = some(ips.into_iter().map(|ip| PodIP { ip }).collect());
}

/// Sets phase, reason and message; gives the phase that the containers mean even where it is withheld.
fn decide_phase(i: &Input<'_>, status: &mut PodStatus) -> String {
    let old = i.old.phase.as_deref().unwrap_or_default();
    let computed = if pod::is_terminal(old) {
        old.to_string()
    } else if i.verdict.is_some() {
        "Failed".into()
    } else {
        phase::of(i, status).to_string()
    };
    let mut decided = computed;
    if i.finished {
        containers::finish(i, status);
        if !pod::is_terminal(&decided) {
            decided = "Failed".into();
        }
    }
    let withheld = pod::is_terminal(&decided) && !pod::is_terminal(old) && !i.finished;
    let shown = if withheld && !old.is_empty() {
        old.to_string()
    } else if withheld {
        "Pending".into()
    } else {
        decided.clone()
    };
    if shown == old {
        status.reason.clone_from(&i.old.reason);
        status.message.clone_from(&i.old.message);
    }
    if let Some(v) = i.verdict.filter(|_| !withheld && !pod::is_terminal(old)) {
        status.reason = Some(v.reason.clone());
        status.message = Some(v.message.clone());
    }
    status.phase = Some(shown);
    decided
}

/// The status of a pod that this node refuses.
pub fn rejected(p: &Pod, reason: &str, message: &str, now: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(format!("Pod was rejected: {message}")),
        qos_class: Some(resources::qos(p).as_str().into()),
        start_time: Some(Time(pod::seconds(now))),
        observed_generation: p.metadata.generation,
        conditions: Some(Vec::new()),
        ..PodStatus::default()
    }
}

/// Whether a container is started, as its status shows.
pub fn is_started(s: &ContainerStatus) -> bool {
    s.started == Some(true)
}

/// Statuses by container name.
fn by_name(list: Option<&Vec<ContainerStatus>>) -> BTreeMap<&str, &ContainerStatus> {
    list.into_iter()
        .flatten()
        .map(|s| (s.name.as_str(), s))
        .collect()
}

/// A terminated message cut to its share of the pod's bound.
fn share(containers: usize) -> usize {
    limits::TERMINATION_MESSAGES / containers.max(1)
}

#[cfg(test)]
mod tests;
