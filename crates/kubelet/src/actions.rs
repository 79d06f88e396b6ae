//! What one sync of a pod has to do, decided from what the runtime has.
//! Upstream: kuberuntime computePodActions.

use api::core::v1::{Container, Pod};
use cri::{ContainerState, ContainerStatus, NamespaceMode};

use crate::observed::Observed;
use crate::pod;
use crate::probes::{ProbeKind, Results};
use crate::resize;
use crate::restart;

/// Why a container is killed; decides its grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    Liveness,
    Startup,
    Other,
}

/// One container to end before others are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    /// Text of the Killing event.
    pub message: String,
    pub reason: KillReason,
}

/// The plan of one sync. Names are those of containers of the spec, in starting order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// End everything, the sandbox included.
    pub kill_pod: bool,
    pub create_sandbox: bool,
    /// The sandbox that containers start in, unless one is created.
    pub sandbox_id: Option<String>,
    /// Attempt of a sandbox to be created.
    pub attempt: u32,
    pub kill: Vec<Kill>,
    pub start_ephemeral: Vec<String>,
    pub start_init: Vec<String>,
    pub start_main: Vec<String>,
}

/// Hash of what makes a running container be replaced: its name and image.
pub fn container_hash(c: &Container) -> String {
    let text = serde_json::json!({"image": c.image, "name": c.name}).to_string();
    let hash = text.bytes().fold(2_166_136_261_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(16_777_619)
    });
    format!("{hash:x}")
}

/// Decides.
pub fn compute(p: &Pod, seen: &Observed, probes: &Results) -> Actions {
    let (create, attempt) = sandbox_needed(p, seen);
    if create {
        return new_sandbox(p, seen, attempt);
    }
    let mut actions = Actions {
        sandbox_id: seen.sandboxes.first().map(|s| s.id.clone()),
        attempt,
        ..Actions::default()
    };
    actions.start_ephemeral = pod::ephemeral_containers(p)
        .iter()
        .filter(|e| seen.latest(&e.name).is_none())
        .map(|e| e.name.clone())
        .collect();
    let initialized = init_actions(p, seen, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    let mut kept = 0;
    for c in pod::containers(p) {
        kept += usize::from(main_action(p, c, seen, probes, &mut actions));
    }
    if kept == 0 && actions.start_main.is_empty() {
        actions.kill_pod = true;
        // Sidecars must not keep the pod alive.
        actions.start_init.clear();
    }
    actions
}

fn sandbox_needed(p: &Pod, seen: &Observed) -> (bool, u32) {
    let Some(newest) = seen.sandboxes.first() else {
        return (true, 0);
    };
    let ready = seen
        .sandboxes
        .iter()
        .filter(|s| s.state == cri::PodSandboxState::Ready)
        .count();
    let host = newest.namespaces.network == NamespaceMode::Node;
    let wanted = pod::is_host_network(p);
    let bad = ready > 1
        || seen.ready_sandbox().is_none()
        || host != wanted
        || (!wanted && newest.ips.is_empty());
    let attempt = newest.metadata.attempt;
    (bad, if bad { attempt + 1 } else { attempt })
}

fn new_sandbox(p: &Pod, seen: &Observed, attempt: u32) -> Actions {
    let kill_pod = Actions {
        kill_pod: true,
        attempt,
        ..Actions::default()
    };
    let never = pod::containers(p)
        .iter()
        .chain(pod::init_containers(p))
        .all(|c| restart::policy(p, c) == "Never" && c.restart_policy_rules.is_none());
    if (never && attempt != 0 && !seen.containers.is_empty())
        || p.metadata.deletion_timestamp.is_some()
    {
        return kill_pod;
    }
    let start: Vec<String> = pod::containers(p)
        .iter()
        .filter(|c| {
            let done = |s: &ContainerStatus| {
                s.state == ContainerState::Exited && !restart::restarts_after(p, c, s.exit_code)
            };
            !seen.latest(&c.name).is_some_and(done)
        })
        .map(|c| c.name.clone())
        .collect();
    let initialized = pod::containers(p)
        .iter()
        .any(|c| seen.latest(&c.name).is_some());
    if initialized && start.is_empty() {
        return kill_pod;
    }
    let first = pod::init_containers(p).first();
    Actions {
        kill_pod: true,
        create_sandbox: true,
        attempt,
        start_init: first.iter().map(|c| c.name.clone()).collect(),
        start_main: if first.is_some() { Vec::new() } else { start },
        ..Actions::default()
    }
}

/// Plans init containers; whether main containers may run.
fn init_actions(p: &Pod, seen: &Observed, probes: &Results, actions: &mut Actions) -> bool {
    let list = pod::init_containers(p);
    if list.is_empty() {
        return true;
    }
    let main_made = pod::containers(p)
        .iter()
        .any(|c| seen.active(&c.name).is_some());
    let frontier = list.iter().rposition(|c| seen.active(&c.name).is_some());
    if main_made {
        for c in list.iter().filter(|c| pod::is_sidecar(c)) {
            keep_sidecar(p, c, seen, probes, actions);
        }
        return true;
    }
    let Some(frontier) = frontier else {
        actions.start_init.push(list[0].name.clone());
        return false;
    };
    for c in list[..frontier].iter().filter(|c| pod::is_sidecar(c)) {
        keep_sidecar(p, c, seen, probes, actions);
    }
    let c = &list[frontier];
    let passed = if pod::is_sidecar(c) {
        keep_sidecar(p, c, seen, probes, actions)
    } else {
        match regular_init(p, c, seen, actions) {
            Some(passed) => passed,
            None => return false,
        }
    };
    if !passed {
        return false;
    }
    match list.get(frontier + 1) {
        Some(next) => {
            actions.start_init.push(next.name.clone());
            false
        }
        None => true,
    }
}

/// A regular init container at the frontier: whether the next may start; `None` if the pod ends.
fn regular_init(p: &Pod, c: &Container, seen: &Observed, actions: &mut Actions) -> Option<bool> {
    let Some(status) = seen.active(&c.name) else {
        return Some(false);
    };
    match status.state {
        ContainerState::Running => Some(false),
        ContainerState::Exited if status.exit_code == 0 && status.reason != "OOMKilled" => {
            Some(true)
        }
        ContainerState::Exited if !restart::restarts_after(p, c, status.exit_code.max(1)) => {
            actions.kill_pod = true;
            actions.start_init.clear();
            None
        }
        ContainerState::Unknown => {
            actions.kill.push(unknown(status));
            actions.start_init.push(c.name.clone());
            Some(false)
        }
        ContainerState::Exited | ContainerState::Created => {
            actions.start_init.push(c.name.clone());
            Some(false)
        }
    }
}

fn unknown(status: &ContainerStatus) -> Kill {
    Kill {
        id: status.id.clone(),
        name: status.metadata.name.clone(),
        message: "Container is in \"unknown\" state, try killing it before restart".into(),
        reason: KillReason::Other,
    }
}

/// Plans a sidecar that must run; whether the next container may start.
fn keep_sidecar(
    p: &Pod,
    c: &Container,
    seen: &Observed,
    probes: &Results,
    actions: &mut Actions,
) -> bool {
    let Some(status) = seen.active(&c.name) else {
        actions.start_init.push(c.name.clone());
        return false;
    };
    if status.state != ContainerState::Running {
        if status.state == ContainerState::Unknown {
            actions.kill.push(unknown(status));
        }
        if restart::should_start(p, c, Some(status)) {
            actions.start_init.push(c.name.clone());
        }
        return false;
    }
    if let Some((what, reason)) = must_be_replaced(p, c, status, probes) {
        actions.kill.push(Kill {
            id: status.id.clone(),
            name: c.name.clone(),
            message: format!("Init container {} {what}", c.name),
            reason,
        });
        actions.start_init.push(c.name.clone());
        return false;
    }
    c.startup_probe.is_none() || probes.get(&status.id, ProbeKind::Startup) == Some(true)
}

/// Plans a main container; whether it runs and is left alone.
fn main_action(
    p: &Pod,
    c: &Container,
    seen: &Observed,
    probes: &Results,
    actions: &mut Actions,
) -> bool {
    let latest = seen.latest(&c.name);
    let running = latest.filter(|s| s.state == ContainerState::Running);
    let Some(status) = running else {
        if restart::should_start(p, c, latest) {
            if let Some(s) = latest.filter(|s| s.state == ContainerState::Unknown) {
                actions.kill.push(unknown(s));
            }
            actions.start_main.push(c.name.clone());
        }
        return false;
    };
    let Some((what, reason)) = must_be_replaced(p, c, status, probes) else {
        return true;
    };
    let resize = what == RESIZE;
    let again = resize || what.ends_with("changed") || restart::policy(p, c) != "Never";
    let suffix = if again && !resize {
        ", will be restarted"
    } else {
        ""
    };
    actions.kill.push(Kill {
        id: status.id.clone(),
        name: c.name.clone(),
        message: format!("Container {} {what}{suffix}", c.name),
        reason,
    });
    if again {
        actions.start_main.push(c.name.clone());
    }
    false
}

const RESIZE: &str = "resize requires restart";

fn must_be_replaced(
    p: &Pod,
    c: &Container,
    status: &ContainerStatus,
    probes: &Results,
) -> Option<(&'static str, KillReason)> {
    let hash = status.annotations.get(crate::labels::CONTAINER_HASH);
    if hash.is_some_and(|h| *h != container_hash(c)) {
        return Some(("definition changed", KillReason::Other));
    }
    if probes.get(&status.id, ProbeKind::Liveness) == Some(false) {
        return Some(("failed liveness probe", KillReason::Liveness));
    }
    if probes.get(&status.id, ProbeKind::Startup) == Some(false) {
        return Some(("failed startup probe", KillReason::Startup));
    }
    let change = resize::change(p, c, status, 1);
    if change.is_some_and(|change| resize::needs_restart(c, &change)) {
        return Some((RESIZE, KillReason::Other));
    }
    None
}

#[cfg(test)]
mod tests;
