//! Containers. CRI v1 ContainerConfig and ContainerStatus.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of a container within its pod and how often it was made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    pub name: String,
    pub attempt: u32,
}

/// How mounts made later cross a bind mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A bind mount, or an image mounted as a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: String,
    pub readonly: bool,
    /// All mounts below become read-only too (kernel 5.12).
    pub recursive_read_only: bool,
    pub propagation: MountPropagation,
    /// Reference of an image to mount read-only instead of `host_path`.
    pub image: Option<String>,
    pub image_sub_path: String,
}

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// How much a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxContainerResources {
    /// Microseconds; 0 is the default of 100000.
    pub cpu_period: i64,
    /// Microseconds per period; 0 is no limit.
    pub cpu_quota: i64,
    /// 2 to 262144; 0 is the default.
    pub cpu_shares: i64,
    /// Bytes; 0 is no limit.
    pub memory_limit_bytes: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Further cgroup v2 files and their values.
    pub unified: BTreeMap<String, String>,
    /// 0 is no limit.
    pub pids_limit: i64,
}

/// Where a seccomp or AppArmor profile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    RuntimeDefault,
    #[default]
    Unconfined,
    /// Absolute path of an OCI seccomp profile in JSON.
    Localhost(String),
}

/// Linux capabilities by name without `CAP_`, `ALL` included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

/// CRI's SupplementalGroupsPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    #[default]
    Merge,
    Strict,
}

/// What a container's process may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxContainerSecurityContext {
    pub capabilities: Capabilities,
    pub privileged: bool,
    /// `None` takes the image's user.
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// User by name, where `run_as_user` is not given.
    pub run_as_username: String,
    pub readonly_rootfs: bool,
    pub supplemental_groups: Vec<i64>,
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub no_new_privs: bool,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: SecurityProfile,
    /// Pid namespace of this container; `NamespaceOption::pid` of the sandbox unless it targets another.
    pub pid: crate::NamespaceMode,
    /// For ephemeral containers: the container whose pid namespace is joined.
    pub target_container: Option<String>,
}

/// What the kubelet wants of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// Reference or id of an image that is present.
    pub image: String,
    /// Reference as the user wrote it, for the status.
    pub user_image: String,
    /// Replaces the image's entrypoint where not empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd where not empty.
    pub args: Vec<String>,
    /// `""` takes the image's.
    pub working_dir: String,
    pub envs: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Log file relative to the sandbox's log directory.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: LinuxContainerResources,
    pub security: LinuxContainerSecurityContext,
    /// Name of a signal such as `SIGINT`; `""` takes the image's, else TERM.
    pub stop_signal: String,
}

/// CRI's ContainerState.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox_id: String,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    /// Nanoseconds since the epoch; 0 where it did not happen.
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    /// As the user wrote it.
    pub image: String,
    /// Resolved reference with digest, for `status.imageID`.
    pub image_ref: String,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerCannotRun`.
    pub reason: String,
    pub message: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Absolute path of the log file.
    pub log_path: String,
    pub pid: i32,
    pub resources: LinuxContainerResources,
    /// uid, gid and supplemental groups of the first process.
    pub user: Option<(i64, i64, Vec<i64>)>,
    pub tty: bool,
    pub stdin: bool,
}

/// Use of one running container.
#[derive(Clone, Debug)]
pub struct ContainerStats {
    pub container_id: String,
    pub sandbox_id: String,
    pub name: String,
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    pub cpu_usage_nanoseconds: u64,
    pub memory_working_set_bytes: u64,
    pub memory_usage_bytes: u64,
    pub memory_rss_bytes: u64,
    pub writable_layer_bytes: u64,
    pub writable_layer_inodes: u64,
    pub processes: u64,
}

/// What happened to a container or sandbox.
#[derive(Clone, Debug)]
pub struct ContainerEvent {
    pub kind: ContainerEventKind,
    /// Uid of the pod.
    pub pod_uid: String,
    pub sandbox_id: String,
    /// `""` for events of the sandbox itself.
    pub container_id: String,
}

/// CRI's ContainerEventType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEventKind {
    Created,
    Started,
    Stopped,
    Deleted,
    /// The sandbox's keeper ended unasked.
    SandboxLost,
}
