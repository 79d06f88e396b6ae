//! Exec, attach and port-forward on the wire: WebSocket channels (`v4.channel.k8s.io`,
//! `v5.channel.k8s.io`), SPDY/3.1, and SPDY tunnelled through WebSocket (KEP-4006).
//! Servers (the kubelet) accept; clients (kubectl) connect. Bytes in between are the caller's.

#![forbid(unsafe_code)]

pub mod limits;
pub mod port_forward;
pub mod remote_command;

/// Why an upgrade or a stream failed; the text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// HTTP status of the answer, where it was not sent yet.
    pub status: http::StatusCode,
    pub message: String,
}

// === Error ===

impl Error {
    /// A request that cannot be upgraded.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: http::StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    /// A connection that broke.
    pub fn broken(message: impl Into<String>) -> Self {
        Self {
            status: http::StatusCode::INTERNAL_SERVER_ERROR,
            message: message.into(),
        }
    }
}
