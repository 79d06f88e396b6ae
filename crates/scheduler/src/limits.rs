//! Bounds of this crate. Numbers are kube-scheduler's where it has one.

use std::time::Duration;

/// First back-off of a pod that did not fit; doubles at each attempt.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// Longest back-off.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a pod may stay unschedulable without any event before it is tried again.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);
/// Nodes that are looked for at least, however large the cluster.
pub const FEASIBLE_NODES_MIN: usize = 100;
/// Percentage of nodes that are looked for at least.
pub const FEASIBLE_PERCENT_MIN: usize = 5;
/// Preemption candidates: at least this many, and at least this percentage of the nodes.
pub const CANDIDATES_MIN: usize = 100;
pub const CANDIDATES_PERCENT_MIN: usize = 10;
/// Highest normalized score of a plugin.
pub const SCORE_MAX: i64 = 100;
/// Bytes of an event's note.
pub const NOTE_BYTES: usize = 1024;
/// How often a write is tried that failed with an error that may pass.
pub const WRITE_TRIES: u32 = 4;
/// First wait between two tries of a write; grows fivefold.
pub const WRITE_WAIT: Duration = Duration::from_millis(10);
/// Bindings written at the same time.
pub const BINDINGS: usize = 512;
/// Status patches written at the same time.
pub const PATCHES: usize = 16;
/// Bindings on their way, those that wait for volumes included.
pub const BINDINGS_ALL: usize = 16_384;
/// Messages from finished tasks that wait for the scheduling loop.
pub const MESSAGES: usize = 4_096;
/// Changes taken in before the loop schedules the next pod.
pub const CHANGES_AT_ONCE: usize = 1_024;
/// How long volumes may take to be bound (VolumeBindingArgs.bindTimeoutSeconds).
pub const VOLUMES_BOUND: Duration = Duration::from_secs(600);
/// Wait before the caches are subscribed to again after the reader lagged behind.
pub const RESUBSCRIBE: Duration = Duration::from_millis(100);
