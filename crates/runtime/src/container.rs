//! Containers: made on disk, started by their sandbox's keeper, known by what the keeper writes.

mod create;
mod end;
mod start;

use std::sync::Arc;

use cri::{ContainerState, ContainerStatus, Error, ErrorKind, LinuxContainerResources};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::disk::ContainerRecord;
use crate::protocol::{Exit, Started};

/// One container.
pub struct Container {
    pub record: ContainerRecord,
    pub state: Mutex<State>,
    /// One change at a time.
    pub operation: tokio::sync::Mutex<()>,
    /// Whether it ended.
    pub ended: watch::Sender<bool>,
}

/// What changes of a container.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub started: Option<Started>,
    pub exit: Option<Exit>,
    pub resources: LinuxContainerResources,
}

// === Container ===

impl Container {
    pub fn new(record: ContainerRecord, state: State) -> Arc<Self> {
        let ended = watch::Sender::new(state.exit.is_some());
        Arc::new(Self {
            record,
            state: Mutex::new(state),
            operation: tokio::sync::Mutex::default(),
            ended,
        })
    }

    pub fn phase(&self) -> ContainerState {
        let state = self.state.lock();
        match (&state.started, &state.exit) {
            (_, Some(_)) => ContainerState::Exited,
            (Some(_), None) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        }
    }

    /// The first process of a running container.
    pub fn running(&self) -> Result<Started, Error> {
        let state = self.state.lock();
        match (&state.started, &state.exit) {
            (Some(started), None) => Ok(started.clone()),
            _ => Err(Error::new(
                ErrorKind::FailedPrecondition,
                format!("container {:?} is not in running state", self.record.id),
            )),
        }
    }

    pub fn status(&self) -> ContainerStatus {
        let state = self.state.lock().clone();
        let (record, config) = (&self.record, &self.record.config);
        let started = state.started.as_ref();
        let exit = state.exit.as_ref();
        let user = started.map(|s| {
            let groups = s.user.groups.iter().map(|g| i64::from(*g)).collect();
            (i64::from(s.user.uid), i64::from(s.user.gid), groups)
        });
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox.clone(),
            metadata: config.metadata.clone(),
            state: self.phase(),
            created_at: record.created_at,
            started_at: started.map_or(0, |s| s.started_at),
            finished_at: exit.map_or(0, |e| e.finished_at),
            exit_code: exit.map_or(0, |e| e.code),
            image: match config.user_image.is_empty() {
                true => config.image.clone(),
                false => config.user_image.clone(),
            },
            image_ref: record.image_ref.clone(),
            reason: exit.map_or_else(String::new, reason),
            message: exit.map_or_else(String::new, |e| e.message.clone()),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: record
                .log
                .as_ref()
                .map_or_else(String::new, |p| p.display().to_string()),
            pid: match (started, exit) {
                (Some(started), None) => started.pid,
                _ => 0,
            },
            resources: state.resources,
            user,
            tty: config.tty,
            stdin: config.stdin,
        }
    }

    fn end(&self, exit: Exit) -> bool {
        let mut state = self.state.lock();
        if state.exit.is_some() {
            return false;
        }
        state.exit = Some(exit);
        drop(state);
        self.ended.send_replace(true);
        true
    }
}

/// As containerd names ends.
fn reason(exit: &Exit) -> String {
    match exit {
        Exit { reason, .. } if !reason.is_empty() => reason.clone(),
        Exit { oom_kills, .. } if *oom_kills > 0 => "OOMKilled".into(),
        Exit { code: 0, .. } => "Completed".into(),
        _ => "Error".into(),
    }
}

/// Names under which a container keeps its images.
fn lease(id: &str, at: usize) -> String {
    match at {
        0 => id.to_owned(),
        at => format!("{id}-{at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_upstream_s_reasons() {
        let exit = |code, oom_kills, reason: &str| {
            super::reason(&Exit {
                code,
                oom_kills,
                reason: reason.into(),
                ..Exit::default()
            })
        };
        assert_eq!(exit(0, 0, ""), "Completed");
        assert_eq!(exit(3, 0, ""), "Error");
        assert_eq!(exit(137, 1, ""), "OOMKilled");
        assert_eq!(exit(128, 0, "StartError"), "StartError");
    }
}
