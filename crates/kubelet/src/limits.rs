//! Bounds and intervals of this crate. Upstream's defaults of KubeletConfiguration where it has them.

use std::time::Duration;

/// How often a pod is looked at again with nothing new (jittered by up to half).
pub const SYNC_FREQUENCY: Duration = Duration::from_secs(60);
/// First and longest wait after a failed sync of a pod.
pub const SYNC_RETRY_FIRST: Duration = Duration::from_millis(500);
/// Upstream waits 10 s (jittered) after failed syncs.
pub const SYNC_RETRY_MAX: Duration = Duration::from_secs(15);
/// First wait before a failed container is started again.
pub const CRASH_BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait before a failed container is started again.
pub const CRASH_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long starts again without waiting.
pub const CRASH_BACKOFF_RESET: Duration = Duration::from_secs(600);
/// First wait after a failed pull.
pub const PULL_BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait after a failed pull.
pub const PULL_BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Pulls at the same time.
pub const PARALLEL_PULLS: usize = 3;
/// Pod and image pairs whose pull back-off is remembered.
pub const PULL_BACKOFF_ENTRIES: usize = 4096;
/// How often node facts are looked at.
pub const NODE_STATUS_CHECK: Duration = Duration::from_secs(10);
/// How often an unchanged node status is written.
pub const NODE_STATUS_REPORT: Duration = Duration::from_secs(300);
/// How long the node's lease is good for.
pub const LEASE_SECONDS: i32 = 40;
/// How often the node's lease is renewed.
pub const LEASE_RENEW: Duration = Duration::from_secs(10);
/// Images named in the node's status.
pub const NODE_STATUS_IMAGES: usize = 50;
/// Names of one image in the node's status.
pub const NODE_STATUS_IMAGE_NAMES: usize = 5;
/// Bytes of a termination message of one container.
pub const TERMINATION_MESSAGE: u64 = 4096;
/// Bytes of all termination messages of one pod.
pub const TERMINATION_MESSAGES: usize = 12_288;
/// Bytes of a log taken as a termination message.
pub const TERMINATION_LOG: u64 = 2048;
/// Lines of a log taken as a termination message.
pub const TERMINATION_LOG_LINES: usize = 80;
/// Seconds that a container always gets to end.
pub const MIN_STOP_GRACE: i64 = 2;
/// Wait between two attempts to end or clean up a pod.
pub const TERMINATE_RETRY: Duration = Duration::from_secs(1);
/// Size of a log file that is rotated.
pub const LOG_SIZE: u64 = 10 << 20;
/// Log files kept of one container.
pub const LOG_FILES: usize = 5;
/// How often log files are looked at.
pub const LOG_CHECK: Duration = Duration::from_secs(10);
/// Output of an exec or http probe that is looked at.
pub const PROBE_BODY: usize = 10 * 1024;
/// Attempts when a probe could not be carried out.
pub const PROBE_ATTEMPTS: u32 = 3;
/// Redirects that an http probe follows.
pub const PROBE_REDIRECTS: u32 = 10;
/// Name servers in a resolv.conf.
pub const DNS_NAMESERVERS: usize = 3;
/// Search paths in a resolv.conf.
pub const DNS_SEARCH_PATHS: usize = 32;
/// Characters of all search paths in a resolv.conf.
pub const DNS_SEARCH_CHARS: usize = 2048;
/// Share of a token's life after which it is replaced.
pub const TOKEN_REFRESH_SHARE: f64 = 0.8;
/// Age after which any token is replaced.
pub const TOKEN_MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Life of a token that names none.
pub const TOKEN_SECONDS: i64 = 3600;
/// How often the folder of static pods is read without being told of changes.
pub const STATIC_PODS_CHECK: Duration = Duration::from_secs(20);
/// Wait before a mirror pod that could not be made is tried again.
pub const MIRROR_RETRY: Duration = Duration::from_secs(1);
/// Bytes of a static pod's file.
pub const STATIC_POD_BYTES: u64 = 10 << 20;
/// Shortest wait for a pod certificate that is due.
pub const POD_CERTIFICATE_MIN_WAIT: Duration = Duration::from_secs(1);
/// Wait before a lost subscription is taken up again.
pub const RESUBSCRIBE: Duration = Duration::from_millis(100);
/// Connections served at the same time by the node's HTTPS server.
pub const CONNECTIONS: usize = 512;
/// Time for a TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an answer of the authorizer is trusted is the authorizer's affair; bodies of requests are bounded here.
pub const REQUEST_BODY: usize = 1 << 20;
/// Bytes of one line of a container's log that are handled at once.
pub const LOG_LINE: usize = 1 << 20;
/// How often memory and disk are compared with the eviction thresholds.
pub const EVICTION_CHECK: Duration = Duration::from_secs(10);
/// How long a pressure condition is held after it was last seen.
pub const PRESSURE_TRANSITION: Duration = Duration::from_secs(300);
/// Memory that must stay free.
pub const EVICTION_MEMORY: u64 = 100 << 20;
/// Percent of the node's filesystem that must stay free.
pub const EVICTION_NODEFS_PERCENT: u64 = 10;
/// Percent of inodes of the node's filesystem that must stay free.
pub const EVICTION_INODES_PERCENT: u64 = 5;
/// Percent of the image filesystem that must stay free.
pub const EVICTION_IMAGEFS_PERCENT: u64 = 15;
/// How often unused images are looked for.
pub const IMAGE_GC: Duration = Duration::from_secs(300);
/// Images are never removed younger than this.
pub const IMAGE_GC_MIN_AGE: Duration = Duration::from_secs(120);
/// A pull that takes longer than this is told of.
pub const PULL_NOTE_FIRST: Duration = Duration::from_secs(5);
/// And again at most this often.
pub const PULL_NOTE_EVERY: Duration = Duration::from_secs(10);
