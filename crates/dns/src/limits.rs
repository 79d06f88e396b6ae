//! Bounds of this crate.

use std::time::Duration;

/// Largest answer over UDP, in bytes, whatever a client offers to take.
pub const UDP_BYTES_MAX: usize = 4096;
/// Answer size of clients that offer nothing (RFC 1035).
pub const UDP_BYTES_PLAIN: usize = 512;
/// Largest query accepted over UDP, in bytes.
pub const QUERY_BYTES_MAX: usize = 4096;
/// TCP connections at a time.
pub const CONNECTIONS_MAX: usize = 512;
/// Queries on one TCP connection.
pub const CONNECTION_QUERIES_MAX: usize = 1_000;
/// A TCP connection without a query for so long is closed.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// Queries forwarded at a time (k0s' Corefile: max_concurrent 1000); more are refused.
pub const FORWARDED_MAX: usize = 1_000;
/// Upstream servers used (CoreDNS forward takes 15).
pub const UPSTREAMS_MAX: usize = 15;
/// Largest resolv.conf read, in bytes.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;
/// Wait for one upstream's answer, and for all of them.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers kept (CoreDNS cache: 9984 each of both kinds).
pub const CACHE_ENTRIES_MAX: usize = 10_000;
/// Seconds for which positive and negative answers are kept at most (Corefile: cache 30).
pub const CACHE_SECONDS_MAX: u32 = 30;
/// Seconds for which answers are kept at least, and for which a failure is.
pub const CACHE_SECONDS_MIN: u32 = 5;
/// ExternalName Services that point to each other.
pub const ALIASES_MAX: usize = 10;
/// Records of one answer.
pub const ANSWERS_MAX: usize = 2_000;
