//! Why a kubelet cannot run.

/// Errors of starting. Errors of single pods are events and statuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the kubelet's directories at {path}")]
    Directories {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("read the cluster")]
    NotServed(#[from] client::NotServed),
    #[error("ask the runtime")]
    Runtime(#[source] cri::Error),
    #[error("listen on port {port}")]
    Listen {
        port: u16,
        #[source]
        source: std::io::Error,
    },
}
