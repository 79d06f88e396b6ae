//! Errors of the DNS server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the DNS server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid cluster domain {0:?}")]
    ClusterDomain(String),
    #[error("listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("no address to listen on")]
    NoAddress,
    #[error("read {path}: {source}")]
    ResolvConf { path: PathBuf, source: io::Error },
    #[error(transparent)]
    NotServed(#[from] client::NotServed),
}
