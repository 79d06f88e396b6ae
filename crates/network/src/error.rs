//! Errors of the pod network and the service proxy.

use std::io;
use std::path::PathBuf;

/// A failed operation of the pod network or the service proxy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Netlink(#[from] linux::netlink::Error),
    #[error(transparent)]
    Nftables(#[from] linux::nftables::Error),
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("encode lease: {0}")]
    EncodeLease(#[from] serde_json::Error),
    #[error("the node has no pod CIDR yet")]
    NoPodCidr,
    #[error("no free address in {0}")]
    AddressesExhausted(crate::Cidr),
    #[error("invalid sandbox id {0:?}")]
    InvalidSandboxId(String),
    #[error("invalid host IP {0:?}")]
    InvalidHostIp(String),
    #[error("host port {port}/{protocol} is in use by pod {holder}")]
    HostPortTaken {
        port: u16,
        protocol: &'static str,
        holder: String,
    },
    #[error("{0} port mappings are more than a pod may have")]
    TooManyPortMappings(usize),
    #[error("link {0} is missing")]
    LinkMissing(String),
    #[error("link {name} is a {found}, not a {wanted}")]
    LinkKind {
        name: String,
        found: String,
        wanted: &'static str,
    },
    #[error(transparent)]
    NotServed(#[from] client::NotServed),
    #[error("network worker ended: {0}")]
    Worker(String),
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

// === Error ===

impl Error {
    /// `Ok` without errors, the one error, or all of them.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl From<Error> for cri::Error {
    fn from(e: Error) -> Self {
        let kind = match e {
            Error::NoPodCidr => cri::ErrorKind::Unavailable,
            Error::AddressesExhausted(_) => cri::ErrorKind::ResourceExhausted,
            Error::InvalidSandboxId(_)
            | Error::InvalidHostIp(_)
            | Error::TooManyPortMappings(_) => cri::ErrorKind::InvalidArgument,
            _ => cri::ErrorKind::Internal,
        };
        Self::new(kind, format!("pod network: {e}"))
    }
}
