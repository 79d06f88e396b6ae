//! Bounds of this crate.

/// Longest sandbox id, in bytes (it becomes a file name).
pub const SANDBOX_ID_BYTES_MAX: usize = 128;
/// Largest lease file read back, in bytes.
pub const LEASE_BYTES_MAX: u64 = 64 << 10;
/// Host ports of one pod.
pub const PORT_MAPPINGS_MAX: usize = 1_024;
/// Addresses looked at when a free one is searched, before the range counts as full.
pub const ALLOCATION_STEPS_MAX: u32 = 1 << 16;
/// Endpoints of one Service port that the proxy programs.
pub const ENDPOINTS_MAX: usize = 4_096;
/// Longest name of a chain or set that the proxy makes, in bytes.
pub const CHAIN_NAME_BYTES_MAX: usize = 240;
/// Flows deleted after one sync; the rest waits for the next.
pub const FLOWS_DELETED_MAX: usize = 65_536;
