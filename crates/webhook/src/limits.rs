//! Every bound of this crate.

use std::time::Duration;

/// Clients that are kept, each with its connections; the one used least recently goes (upstream: 200).
pub const CLIENTS: usize = 200;
/// Idle connections of a client to one address.
pub const IDLE_CONNECTIONS: usize = 25;
/// How long an idle connection is kept (Go's default transport).
pub const IDLE: Duration = Duration::from_secs(90);
/// Time to connect (Go's default dialer).
pub const DIAL: Duration = Duration::from_secs(30);
/// Time for a TLS handshake (Go's default transport).
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of an answer's text that an error shows (upstream: 2048).
pub const ERROR_TEXT: usize = 2_048;
/// Bytes of an answer's headers.
pub const HEADER_BYTES: usize = 256 << 10;
/// Redirects that a fetch follows (Go's client).
pub const REDIRECTS: usize = 10;
/// Hosts of one fetcher whose connections are kept.
pub const FETCH_HOSTS: usize = 16;
/// Bytes of a file of certificates or keys.
pub const PEM_BYTES: u64 = 1 << 20;
