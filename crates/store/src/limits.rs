//! Bounds of this crate.

/// Largest value, as etcd's default request size.
pub const VALUE_BYTES: usize = 3 << 19;
/// Longest key.
pub const KEY_BYTES: usize = 4 << 10;
/// Most operations of one transaction, as etcd's `--max-txn-ops`.
pub const TXN_OPS: usize = 128;
/// Transactions waiting for the writer; callers wait for room.
pub const WRITE_QUEUE: usize = 4_096;
/// Transactions that share one durable commit at most.
pub const GROUP_COMMIT: usize = 512;
/// Batches a live watcher may lag behind before it is cut off.
pub const WATCH_BATCHES: usize = 8_192;
/// Revisions read from history at a time.
pub const HISTORY_PAGE: usize = 1_000;
/// Read connections.
pub const READERS: usize = 4;
/// Live leases.
pub const LEASES: usize = 1_000_000;
