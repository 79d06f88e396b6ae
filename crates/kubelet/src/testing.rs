//! Builders for tests of plans.

use std::collections::BTreeMap;

use cri::{
    ContainerMetadata, ContainerState, ContainerStatus, LinuxContainerResources, NamespaceOption,
    PodSandboxMetadata, PodSandboxState, PodSandboxStatus,
};

use crate::labels;

/// A sandbox with address 10.0.0.2.
pub fn sandbox(id: &str, uid: &str, attempt: u32, ready: bool) -> PodSandboxStatus {
    PodSandboxStatus {
        id: id.into(),
        metadata: PodSandboxMetadata {
            uid: uid.into(),
            attempt,
            ..PodSandboxMetadata::default()
        },
        state: if ready {
            PodSandboxState::Ready
        } else {
            PodSandboxState::NotReady
        },
        created_at: 1,
        ips: vec!["10.0.0.2".into()],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        namespaces: NamespaceOption::default(),
        keeper_pid: 0,
        netns_path: String::new(),
    }
}

/// A container of pod `u`, started at second 10 and, if it ended, finished at second 20.
pub fn container(
    name: &str,
    sandbox: &str,
    attempt: u32,
    state: ContainerState,
    exit_code: i32,
) -> ContainerStatus {
    let seconds = |s: i64| s * 1_000_000_000;
    ContainerStatus {
        id: format!("{name}-{attempt}"),
        sandbox_id: sandbox.into(),
        metadata: ContainerMetadata {
            name: name.into(),
            attempt,
        },
        state,
        created_at: seconds(5),
        started_at: if state == ContainerState::Created {
            0
        } else {
            seconds(10)
        },
        finished_at: if state == ContainerState::Exited {
            seconds(20)
        } else {
            0
        },
        exit_code,
        image: "img".into(),
        image_ref: "img@sha256:1".into(),
        reason: String::new(),
        message: String::new(),
        labels: BTreeMap::from([(labels::POD_UID.into(), "u".into())]),
        annotations: BTreeMap::new(),
        log_path: String::new(),
        pid: 0,
        resources: LinuxContainerResources::default(),
        user: None,
        tty: false,
        stdin: false,
    }
}
