//! Pod sandboxes. CRI v1 PodSandboxConfig and PodSandboxStatus.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who a sandbox belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

/// How a namespace is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// Shared by the containers of the pod.
    #[default]
    Pod,
    /// Each container has its own (the default of pid).
    Container,
    /// The node's.
    Node,
}

/// Which namespaces a pod's containers live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOption {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
}

/// DNS of the pod, written to `/etc/resolv.conf` of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A port of the pod published on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// `""` for all addresses.
    pub host_ip: String,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// What the kubelet wants of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    pub metadata: PodSandboxMetadata,
    /// Host name of the pod; empty where the node's network is used (the node's name then applies).
    pub hostname: String,
    /// Directory of the pod's container logs.
    pub log_directory: String,
    /// `None`: containers see the image's own resolv.conf replaced by the node's.
    pub dns: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Path of the pod's cgroup relative to the node's cgroup root, such as
    /// `kubepods/burstable/pod<uid>`; made by the kubelet's plan, created by the runtime.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup; `None` leaves it unlimited.
    pub pod_resources: Option<LinuxPodResources>,
    pub namespaces: NamespaceOption,
    pub sysctls: BTreeMap<String, String>,
}

/// Limits of a pod's cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxPodResources {
    pub cpu_shares: u64,
    /// Microseconds per 100 ms; 0 is no limit.
    pub cpu_quota: i64,
    /// Bytes; 0 is no limit.
    pub memory_limit_bytes: i64,
    /// 0 is no limit.
    pub pids_limit: i64,
}

/// Whether a sandbox can hold containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSandboxState {
    Ready,
    NotReady,
}

/// A sandbox as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSandboxStatus {
    pub id: String,
    pub metadata: PodSandboxMetadata,
    pub state: PodSandboxState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The pod's addresses, primary first; empty on the node's network.
    pub ips: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespaceOption,
    /// Process id of the keeper, 0 once it ended.
    pub keeper_pid: i32,
    /// Path of the network namespace, `""` on the node's network.
    pub netns_path: String,
}

/// A runtime and its conditions.
#[derive(Clone, Debug)]
pub struct RuntimeStatus {
    pub name: String,
    pub version: String,
    pub runtime_ready: bool,
    /// Why the network is not ready; `None` when it is.
    pub network_not_ready: Option<String>,
}

// === NamespaceOption ===

impl Default for NamespaceOption {
    /// Upstream's: network and ipc of the pod, pid of each container.
    fn default() -> Self {
        Self {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
        }
    }
}
