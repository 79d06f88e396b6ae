//! Statuses of single containers. Upstream: convertToAPIContainerStatuses.

use api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, PodStatus,
    ResourceRequirements, VolumeMountStatus,
};
use api::meta::Time;
use cri::ContainerState as RuntimeState;

use super::{Input, by_name, share};
use crate::pod::{self, ContainerKind};
use crate::probes::ProbeKind;
use crate::restart;

const GONE: &str = "ContainerStatusUnknown";
const GONE_RUNNING: &str = "The container could not be located when the pod was deleted.  The container used to be Running";
const GONE_TERMINATED: &str = "The container could not be located when the pod was terminated";

/// Init containers, in the order of the spec.
pub fn init(i: &Input<'_>) -> Vec<ContainerStatus> {
    let list = pod::init_containers(i.pod).iter();
    list.map(|c| one(i, c, ContainerKind::Init)).collect()
}

/// Main containers, sorted by name.
pub fn main(i: &Input<'_>) -> Vec<ContainerStatus> {
    let list = pod::containers(i.pod).iter();
    sorted(list.map(|c| one(i, c, ContainerKind::Main)).collect())
}

/// Ephemeral containers, sorted by name.
pub fn ephemeral(i: &Input<'_>) -> Vec<ContainerStatus> {
    let all = pod::all_containers(i.pod).into_iter();
    let list = all.filter(|c| c.kind == ContainerKind::Ephemeral);
    sorted(list.map(|c| one(i, &c.container, c.kind)).collect())
}

fn sorted(mut list: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

fn one(i: &Input<'_>, c: &Container, kind: ContainerKind) -> ContainerStatus {
    let list = match kind {
        ContainerKind::Init => i.old.init_container_statuses.as_ref(),
        ContainerKind::Main => i.old.container_statuses.as_ref(),
        ContainerKind::Ephemeral => i.old.ephemeral_container_statuses.as_ref(),
    };
    let old = by_name(list).get(c.name.as_str()).copied();
    // One that is made and not started yet is in the middle of a sync: nothing is said of it before that ends.
    let is_news = |s: &&cri::ContainerStatus| {
        s.state != RuntimeState::Created || i.errors.contains_key(&c.name)
    };
    let mut runs = i.seen.named(&c.name).filter(is_news);
    let mut status = match runs.next() {
        Some(newest) => {
            let mut status = from_runtime(i, c, newest, old);
            if let Some(before) = runs.next() {
                let before = from_runtime(i, c, before, None);
                status.last_state = before.state.filter(|s| s.terminated.is_some());
            }
            if status.last_state.is_none() {
                let same = |o: &&ContainerStatus| o.restart_count == status.restart_count;
                status.last_state = old.filter(same).and_then(|o| o.last_state.clone());
            }
            status
        }
        None => without_runtime(i, c, kind, old),
    };
    wait_after_error(i, c, kind, &mut status);
    status.volume_mounts = volume_mounts(c);
    set_ready(i, c, kind, &mut status);
    status
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: (!reason.is_empty()).then(|| reason.into()),
            message,
        }),
        ..ContainerState::default()
    }
}

fn lost(message: &str, id: Option<&String>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some(GONE.into()),
            message: Some(message.into()),
            exit_code: 137,
            container_id: id.cloned(),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// A container that the runtime does not have (any more).
fn without_runtime(
    i: &Input<'_>,
    c: &Container,
    kind: ContainerKind,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let has_init = !pod::init_containers(i.pod).is_empty() && kind != ContainerKind::Ephemeral;
    let reason = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut status = ContainerStatus {
        name: c.name.clone(),
        image: c.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, None)),
        ..ContainerStatus::default()
    };
    let Some(old) = old else {
        return with_initialized(i, c, kind, status);
    };
    if old.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state.clone_from(&old.last_state);
    if old.state.as_ref().is_some_and(|s| s.running.is_some()) {
        status.last_state = Some(lost(GONE_RUNNING, old.container_id.as_ref()));
        if i.pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
        return status;
    }
    with_initialized(i, c, kind, status)
}

/// An init container that was collected after the main containers were made had ended well.
fn with_initialized(
    i: &Input<'_>,
    c: &Container,
    kind: ContainerKind,
    mut status: ContainerStatus,
) -> ContainerStatus {
    let main_made = pod::containers(i.pod)
        .iter()
        .any(|m| i.seen.latest(&m.name).is_some());
    if kind == ContainerKind::Init && !pod::is_sidecar(c) && main_made {
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some("Completed".into()),
                message: Some("Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".into()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    }
    status
}

fn time(nanos: i64) -> Option<Time> {
    pod::from_nanos(nanos).map(|t| Time(pod::seconds(t)))
}

fn from_runtime(
    i: &Input<'_>,
    c: &Container,
    s: &cri::ContainerStatus,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let id = format!("{}://{}", i.runtime, s.id);
    let mut restart_count = i32::try_from(s.metadata.attempt).unwrap_or(i32::MAX);
    let state = match s.state {
        RuntimeState::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: time(s.started_at),
            }),
            ..ContainerState::default()
        },
        RuntimeState::Exited => ContainerState {
            terminated: Some(terminated(i, s, &id)),
            ..ContainerState::default()
        },
        RuntimeState::Created => waiting("", None),
        RuntimeState::Unknown => match old {
            Some(o) if o.state.as_ref().is_some_and(|s| s.running.is_some()) => {
                restart_count = o.restart_count + 1;
                lost(GONE_TERMINATED, None)
            }
            _ => waiting("", None),
        },
    };
    let image = if s.image.is_empty() {
        c.image.clone().unwrap_or_default()
    } else {
        s.image.clone()
    };
    let resources = c.resources.clone().unwrap_or_default();
    ContainerStatus {
        name: c.name.clone(),
        image,
        image_id: s.image_ref.clone(),
        container_id: Some(id),
        restart_count,
        state: Some(state),
        allocated_resources: resources.requests.clone().filter(|r| !r.is_empty()),
        resources: Some(ResourceRequirements {
            claims: None,
            ..resources
        }),
        user: s.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: *uid,
                gid: *gid,
                supplemental_groups: (!groups.is_empty()).then(|| groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

fn terminated(i: &Input<'_>, s: &cri::ContainerStatus, id: &str) -> ContainerStateTerminated {
    let reason = match (s.reason.as_str(), s.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let message = i.messages.get(&s.id).unwrap_or(&s.message);
    ContainerStateTerminated {
        container_id: Some(id.into()),
        exit_code: s.exit_code,
        reason: Some(reason.into()),
        message: (!message.is_empty()).then(|| message.clone()),
        started_at: time(s.started_at),
        finished_at: time(s.finished_at),
        signal: None,
    }
}

/// A container that should be started again and could not be is waiting, for the reason it could not.
fn wait_after_error(
    i: &Input<'_>,
    c: &Container,
    kind: ContainerKind,
    status: &mut ContainerStatus,
) {
    let done = |s: &ContainerState| s.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    let regular_init = kind == ContainerKind::Init && !pod::is_sidecar(c);
    if regular_init && status.state.as_ref().is_some_and(done) {
        return;
    }
    let latest = i.seen.latest(&c.name);
    let again = match kind {
        ContainerKind::Ephemeral => latest.is_none(),
        _ => i.finished || restart::should_start(i.pod, c, latest),
    };
    let Some((reason, message)) = i.errors.get(&c.name).filter(|_| again) else {
        return;
    };
    if i.finished && latest.is_some() {
        return;
    }
    if status
        .state
        .as_ref()
        .is_some_and(|s| s.terminated.is_some())
    {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(
        reason,
        (!message.is_empty()).then(|| message.clone()),
    ));
}

fn volume_mounts(c: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = c.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let one = |m: &api::core::v1::VolumeMount| {
        let read_only = m.read_only == Some(true);
        let recursive = match m.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| recursive.into()),
            volume_status: None,
        }
    };
    Some(mounts.iter().map(one).collect())
}

fn set_ready(i: &Input<'_>, c: &Container, kind: ContainerKind, status: &mut ContainerStatus) {
    let running = i
        .seen
        .latest(&c.name)
        .filter(|s| s.state == RuntimeState::Running)
        .filter(|_| status.state.as_ref().is_some_and(|s| s.running.is_some()));
    let probe = |kind, wanted: bool| {
        running.is_some_and(|s| !wanted || i.probes.get(&s.id, kind) == Some(true))
    };
    let started = probe(ProbeKind::Startup, c.startup_probe.is_some());
    status.started = Some(started);
    status.ready = match kind {
        ContainerKind::Ephemeral => false,
        ContainerKind::Init if !pod::is_sidecar(c) => status
            .state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0),
        _ => started && probe(ProbeKind::Readiness, c.readiness_probe.is_some()),
    };
    if kind == ContainerKind::Ephemeral {
        status.started = None;
    }
}

/// At the end every container that the pod had come to is terminated.
pub fn finish(i: &Input<'_>, status: &mut PodStatus) {
    let initialized = is_initialized(i, status);
    let end = |s: &mut ContainerStatus| {
        if s.state.as_ref().is_none_or(|st| st.terminated.is_none()) {
            s.state = Some(lost(GONE_TERMINATED, None));
        }
        s.started = Some(false);
    };
    if initialized {
        status.container_statuses.iter_mut().flatten().for_each(end);
    }
    let init = status.init_container_statuses.as_mut();
    let Some(init) = init else { return };
    let reached = init.iter().rposition(|s| {
        let state = s.state.as_ref();
        let waiting = state.is_none_or(|st| st.waiting.is_some());
        !waiting
            || s.last_state
                .as_ref()
                .is_some_and(|l| l.terminated.is_some())
    });
    let upto = if initialized {
        init.len()
    } else {
        reached.map_or(0, |r| r + 1)
    };
    init[..upto].iter_mut().for_each(end);
}

fn is_initialized(i: &Input<'_>, status: &PodStatus) -> bool {
    let Some(last) = pod::init_containers(i.pod).last() else {
        return true;
    };
    let started = |s: &ContainerStatus| {
        s.restart_count > 0
            || s.state.as_ref().is_some_and(|st| st.waiting.is_none())
            || s.last_state.is_some()
    };
    if status.container_statuses.iter().flatten().any(started) {
        return true;
    }
    let list = by_name(status.init_container_statuses.as_ref());
    let Some(s) = list.get(last.name.as_str()) else {
        return false;
    };
    if pod::is_sidecar(last) {
        return super::is_started(s);
    }
    let ended = s.state.as_ref().and_then(|st| st.terminated.as_ref());
    ended.is_some_and(|t| t.exit_code == 0)
}

/// Cuts termination messages to their share of the pod's bound.
pub fn bound_messages(status: &mut PodStatus) {
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    let all: Vec<&mut ContainerStatus> = lists
        .into_iter()
        .flat_map(|l| l.iter_mut().flatten())
        .collect();
    let bound = share(all.len());
    for s in all {
        let states = [&mut s.state, &mut s.last_state];
        let ended = states
            .into_iter()
            .flatten()
            .filter_map(|st| st.terminated.as_mut());
        for message in ended.filter_map(|t| t.message.as_mut()) {
            let mut end = bound.min(message.len());
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
    }
}
