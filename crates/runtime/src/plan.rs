//! What the stages are told: everything about a container or a command is decided by the daemon; the stages
//! only carry it out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything the init stage needs to become a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerPlan {
    pub rootfs: Rootfs,
    /// Files of the container's cgroup to write `0` to.
    pub cgroup_procs: Vec<PathBuf>,
    pub pid: PidPlan,
    pub cgroup_namespace: bool,
    /// In order.
    pub mounts: Vec<MountPlan>,
    /// Nodes made in `/dev`; none where `/dev` is a mount of the user's.
    pub devices: Vec<DevicePlan>,
    /// Whether `/dev` gets its usual links.
    pub device_links: bool,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub process: ProcessPlan,
}

/// The process id namespace of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidPlan {
    /// Its own.
    New,
    /// That of the descriptor that comes along: the sandbox's or another container's.
    Join,
    /// The node's.
    Host,
}

/// An overlay over an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// Bottom first.
    pub layers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where it is mounted, in the container's own mount namespace only.
    pub target: PathBuf,
    pub readonly: bool,
}

/// One mount in a container. Targets are absolute in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPlan {
    Bind {
        source: PathBuf,
        target: String,
        readonly: bool,
        recursive_readonly: bool,
        propagation: cri::MountPropagation,
    },
    Filesystem {
        kind: String,
        target: String,
        options: Vec<(String, Option<String>)>,
        flags: Vec<MountFlag>,
    },
    /// The layers of an image, read-only and without programs to execute.
    Image {
        /// Bottom first.
        layers: Vec<PathBuf>,
        /// Where the layers are put together first; in the container's own mount namespace only.
        scratch: PathBuf,
        /// Below the image's root, without slashes at its ends; may be empty.
        sub_path: String,
        target: String,
    },
    /// Version 1 hierarchies below a tmpfs.
    CgroupV1 {
        target: String,
        /// Directory name and mount options (`None`: version 2).
        hierarchies: Vec<(String, Option<String>)>,
        readonly: bool,
    },
}

/// An attribute of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountFlag {
    NoSuid,
    NoDev,
    NoExec,
    ReadOnly,
    StrictAtime,
}

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A BPF program: code, jt, jf, k of each instruction.
pub type Filter = Vec<(u16, u8, u8, u32)>;

/// What a process becomes once it is where it belongs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessPlan {
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    pub working_dir: String,
    pub user: UserPlan,
    /// A bit per capability: bounding, permitted and effective.
    pub capabilities: u64,
    pub no_new_privs: bool,
    pub seccomp: Option<Filter>,
    pub oom_score_adj: Option<i64>,
    pub terminal: bool,
}

/// Who a process runs as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum UserPlan {
    /// To be looked up in the container's own `/etc/passwd` and `/etc/group`.
    Lookup {
        /// `""`, uid, name, or either with `:` and a gid or group.
        user: String,
        supplemental: Vec<u32>,
        /// Groups of `/etc/group` are not added.
        strict: bool,
    },
    /// As found before.
    Known(User),
}

/// A user as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// With `gid` first.
    pub groups: Vec<u32>,
    pub home: String,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    pub cgroup_procs: Vec<PathBuf>,
    /// Namespaces other than the keeper's that are entered with the container's first process.
    pub process: ProcessPlan,
}

/// A sandbox as its keeper makes and holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeeperPlan {
    pub id: String,
    /// The sandbox's run directory, where the socket is made.
    pub run: PathBuf,
    /// Where the new network namespace is mounted; `None`: the node's network.
    pub netns: Option<PathBuf>,
    pub new_ipc: bool,
    /// `None`: the node's host name.
    pub hostname: Option<String>,
    /// Whether the pod's containers share a process id namespace.
    pub shared_pid: bool,
    /// Where `/dev/shm` of the pod is mounted.
    pub shm: Option<PathBuf>,
    pub sysctls: Vec<(String, String)>,
    pub cgroup_procs: Vec<PathBuf>,
    pub oom_score_adj: i64,
}
