//! Every bound of the runtime.

use std::time::Duration;

/// Bytes of one message between daemon, keeper and stages. Plans are files in memory beside them.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a plan: environments and argument lists fit the kernel's own limit of 6 MiB twice.
pub const PLAN_BYTES_MAX: usize = 16 << 20;
/// Bytes of one piece of a log line, as containerd's `max_container_log_line_size`.
pub const LOG_LINE_BYTES_MAX: usize = 16 << 10;
/// Bytes a keeper reads at once.
pub const KEEPER_READ_BYTES: usize = 32 << 10;
/// Bytes kept for an attached reader before the container's output waits for it.
pub const ATTACH_PENDING_BYTES_MAX: usize = 64 << 10;
/// Readers attached to one container.
pub const ATTACHMENTS_MAX: usize = 32;
/// Connections to one keeper.
pub const KEEPER_CONNECTIONS_MAX: usize = 512;
/// Bytes of each stream that `exec_sync` keeps, as upstream.
pub const EXEC_SYNC_BYTES_MAX: usize = 16 << 20;
/// Bytes of a passwd or group file that are read.
pub const USER_FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of an OCI seccomp profile.
pub const SECCOMP_PROFILE_BYTES_MAX: u64 = 1 << 20;
/// Events a slow reader may lag behind.
pub const EVENTS_MAX: usize = 1024;
/// How long a keeper may take to make its namespaces, and to end.
pub const KEEPER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a killed container may take to be gone.
pub const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// How long the init stage may take (remote volumes can be slow).
pub const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long the size of a writable layer is taken as known.
pub const DISK_USAGE_AGE_MAX: Duration = Duration::from_secs(30);
/// Files looked at for the size of a writable layer.
pub const DISK_USAGE_FILES_MAX: u64 = 2_000_000;
/// Bytes of a sandbox's `/dev/shm`, as containerd.
pub const SHM_BYTES: u64 = 64 << 20;
