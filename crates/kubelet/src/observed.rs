//! What the runtime has of one pod. Upstream: kubecontainer.PodStatus.

use cri::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};

use crate::labels;

/// Sandboxes and containers of one pod, newest first.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

// === Observed ===

impl Observed {
    /// Those of `uid` out of everything the runtime has.
    pub fn of(uid: &str, sandboxes: &[PodSandboxStatus], containers: &[ContainerStatus]) -> Self {
        let mut sandboxes: Vec<PodSandboxStatus> = sandboxes
            .iter()
            .filter(|s| s.metadata.uid == uid)
            .cloned()
            .collect();
        sandboxes.sort_by_key(|s| std::cmp::Reverse((s.metadata.attempt, s.created_at)));
        let own = |c: &&ContainerStatus| {
            c.labels.get(labels::POD_UID).is_some_and(|u| u == uid)
                || sandboxes.iter().any(|s| s.id == c.sandbox_id)
        };
        let mut containers: Vec<ContainerStatus> = containers.iter().filter(own).cloned().collect();
        containers.sort_by_key(|c| std::cmp::Reverse((c.metadata.attempt, c.created_at)));
        Self {
            sandboxes,
            containers,
        }
    }

    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|c| c.metadata.name == name)
    }

    /// All containers of a name, newest first.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
        self.containers
            .iter()
            .filter(move |c| c.metadata.name == name)
    }

    /// The newest sandbox if it is ready.
    pub fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes
            .first()
            .filter(|s| s.state == PodSandboxState::Ready)
    }

    /// The newest container of a name, if it is in the ready sandbox.
    pub fn active(&self, name: &str) -> Option<&ContainerStatus> {
        let sandbox = self.ready_sandbox()?;
        self.latest(name).filter(|c| c.sandbox_id == sandbox.id)
    }

    /// Addresses of the newest sandbox.
    pub fn ips(&self) -> &[String] {
        self.sandboxes.first().map_or(&[], |s| s.ips.as_slice())
    }

    /// Whether any container runs.
    pub fn any_running(&self) -> bool {
        self.containers
            .iter()
            .any(|c| c.state == ContainerState::Running)
    }
}
