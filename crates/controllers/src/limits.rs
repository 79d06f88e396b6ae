//! Bounds of this crate. Numbers are upstream's.

use std::time::Duration;

/// Most pods that one run of a ReplicaSet, a Job or a StatefulSet makes or removes.
pub const BURST_REPLICAS: usize = 500;

/// Most pods that one run of a DaemonSet makes or removes.
pub const DAEMON_BURST: usize = 250;

/// First batch of a slow start; each good batch doubles the next.
pub const SLOW_START: usize = 1;

/// Requests that a controller has under way at once for one key.
pub const PARALLEL: usize = 32;

/// Terminated pods kept before pod GC deletes the oldest.
pub const TERMINATED_PODS: usize = 12_500;

/// How long a node must be missing before its pods are collected.
pub const NODE_MISSING: Duration = Duration::from_secs(40);

/// Pause between two rounds of pod GC.
pub const POD_GC_PERIOD: Duration = Duration::from_secs(20);

/// Identities of absent owners that the garbage collector remembers.
pub const ABSENT_OWNERS: usize = 500;

/// Endpoints of one EndpointSlice.
pub const ENDPOINTS_PER_SLICE: usize = 100;

/// Addresses in one Endpoints object, and in one mirrored subset.
pub const ENDPOINTS_ADDRESSES: usize = 1_000;

/// Length of the list of earlier revisions in a ReplicaSet's annotation.
pub const REVISION_HISTORY_CHARS: usize = 2_000;

/// Pause between a namespace's deletion and that of its content, for creates that are under way.
/// Upstream waits 5 s for other API servers to notice; this one's admission sees the phase at once.
pub const NAMESPACE_GRACE: Duration = Duration::from_millis(200);

/// Kinds that the check of a policy rule's types looks at.
pub const TYPES_CHECKED_MAX: usize = 10;

/// Changes of another server's resource that a reader may lag behind.
pub const AGGREGATED_CHANGES: usize = 1_024;

/// Pause between two looks at what other API servers serve, while there are any. (Upstream: the same.)
pub const DISCOVERY_AGAIN: Duration = Duration::from_secs(30);
