//! The phase of a pod. Upstream: getPhase.

use api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodStatus};

use super::{Input, by_name, is_started};
use crate::pod;
use crate::restart;

#[derive(Default)]
struct Counts {
    pending_init: usize,
    pending_sidecar: usize,
    failed_init: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    waiting: usize,
    unknown: usize,
    restartable: usize,
}

/// What the container statuses mean for the pod.
pub fn of(i: &Input<'_>, status: &PodStatus) -> &'static str {
    let mut n = Counts::default();
    let init = by_name(status.init_container_statuses.as_ref());
    for c in pod::init_containers(i.pod) {
        let s = init.get(c.name.as_str()).copied();
        if pod::is_sidecar(c) {
            sidecar(s, &mut n);
        } else {
            regular_init(i, c, s, &mut n);
        }
    }
    let main = by_name(status.container_statuses.as_ref());
    for c in pod::containers(i.pod) {
        main_container(i, c, main.get(c.name.as_str()).copied(), &mut n);
    }
    let started = main
        .values()
        .any(|s| is_started(s) || s.restart_count > 0 || ended(s).is_some());
    judge(i, &n, started)
}

fn judge(i: &Input<'_>, n: &Counts, main_started: bool) -> &'static str {
    if n.failed_init > 0 {
        return "Failed";
    }
    if n.pending_init > 0 || (n.pending_sidecar > 0 && !main_started) || n.waiting > 0 {
        return "Pending";
    }
    if n.running > 0 && n.unknown == 0 {
        return "Running";
    }
    if n.running == 0 && n.stopped > 0 && n.unknown == 0 {
        let all_succeeded = n.stopped == n.succeeded;
        if !i.finished && n.restartable > 0 {
            return "Running";
        }
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    "Pending"
}

/// The state in which a container ended: its own, or the last one of a waiting container.
fn ended(s: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let state = s.state.as_ref()?;
    if state.terminated.is_some() {
        return state.terminated.as_ref();
    }
    // A waiting container counts as stopped by its last state.
    if state.waiting.is_some() {
        return s.last_state.as_ref()?.terminated.as_ref();
    }
    None
}

fn is_running(s: &ContainerStatus) -> bool {
    s.state.as_ref().is_some_and(|st| st.running.is_some())
}

fn regular_init(i: &Input<'_>, c: &Container, s: Option<&ContainerStatus>, n: &mut Counts) {
    match s.and_then(ended) {
        Some(t) if t.exit_code == 0 && s.is_some_and(|s| !waits(s)) => {}
        Some(t) if t.exit_code != 0 && !restart::restarts_after(i.pod, c, t.exit_code) => {
            n.failed_init += 1;
        }
        _ => n.pending_init += 1,
    }
}

fn waits(s: &ContainerStatus) -> bool {
    s.state.as_ref().is_some_and(|st| st.waiting.is_some())
}

fn sidecar(s: Option<&ContainerStatus>, n: &mut Counts) {
    let Some(s) = s else {
        n.unknown += 1;
        return;
    };
    if is_running(s) {
        if !is_started(s) {
            n.pending_sidecar += 1;
        }
        n.running += 1;
    } else if waits(s) && ended(s).is_none() {
        n.pending_sidecar += 1;
        n.waiting += 1;
    }
}

fn main_container(i: &Input<'_>, c: &Container, s: Option<&ContainerStatus>, n: &mut Counts) {
    let Some(s) = s else {
        n.unknown += 1;
        return;
    };
    if is_running(s) {
        n.running += 1;
        return;
    }
    let Some(t) = ended(s) else {
        n.waiting += 1;
        return;
    };
    n.stopped += 1;
    if !waits(s) && t.exit_code == 0 {
        n.succeeded += 1;
    }
    if restart::restarts_after(i.pod, c, t.exit_code) {
        n.restartable += 1;
    }
}
