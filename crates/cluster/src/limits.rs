//! Bounds of this crate.

/// Largest k0s.yaml.
pub const CONFIG_BYTES: usize = 1 << 20;
/// Largest manifest file.
pub const MANIFEST_BYTES: u64 = 10 << 20;
/// Files in one stack.
pub const MANIFESTS_PER_STACK: usize = 1_000;
/// Stacks.
pub const STACKS: usize = 1_000;
/// Bytes of the kernel's configuration.
pub const KERNEL_CONFIG_BYTES: u64 = 4 << 20;
/// Bytes of a request to the status socket.
pub const STATUS_REQUEST_BYTES: usize = 8 << 10;
/// Connections to the status socket at once.
pub const STATUS_CONNECTIONS: usize = 64;
/// How long a client of the status socket may take to send its request.
pub const STATUS_HEADERS: std::time::Duration = std::time::Duration::from_secs(5);
/// System objects that are written at once when the cluster starts.
pub const BOOTSTRAP_WRITES: usize = 64;
