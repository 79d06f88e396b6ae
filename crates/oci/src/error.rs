//! What can go wrong with images, in the words that containerd's users know.

use std::path::PathBuf;

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A reference that names nothing; the text is the reference parser's.
    #[error("{0}")]
    Reference(#[from] crate::reference::ReferenceError),
    /// A digest that is none.
    #[error("{0}")]
    Digest(#[from] crate::digest::DigestError),
    /// The image is not in the store, or not in the registry.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry refuses the credentials, or wants some.
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Denied(String),
    /// The token server refuses.
    #[error("failed to authorize: {0}")]
    Authorize(String),
    /// A request did not reach its host.
    #[error("failed to do request: {method} {url:?}: {cause}")]
    Request {
        method: String,
        url: String,
        cause: String,
    },
    /// A status that ends the operation.
    #[error("unexpected status from {method} request to {url}: {status}{detail}")]
    Status {
        method: String,
        url: String,
        status: String,
        detail: String,
    },
    /// Bytes are not those their digest names.
    #[error(
        "failed commit on ref {what:?}: unexpected commit digest {found}, expected {expected}: failed precondition"
    )]
    Mismatch {
        what: String,
        expected: String,
        found: String,
    },
    /// A manifest, index, config or archive that cannot be read.
    #[error("{what}: {cause}")]
    Malformed { what: String, cause: String },
    /// Nothing in the index fits this machine.
    #[error("no match for platform in manifest {0}: not found")]
    Platform(String),
    /// A bound of `limits` was met.
    #[error("{what} exceeds the limit of {limit}")]
    Limit { what: String, limit: u64 },
    /// A layer that tries to leave its root or cannot be written.
    #[error("failed to extract layer {layer}: {cause}")]
    Extract { layer: String, cause: String },
    /// An operation on a file.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// Where in a pull another error happened.
    #[error("{context}: {source}")]
    Context { context: String, source: Box<Error> },
    /// The registry's configuration is wrong.
    #[error("invalid registry configuration {}: {cause}", path.display())]
    Hosts { path: PathBuf, cause: String },
    /// A task of this crate ended in a panic.
    #[error("{0} ended unexpectedly")]
    Crashed(&'static str),
}

// === Error ===

impl Error {
    /// An error of the file system, with what was tried.
    pub(crate) fn io(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// A document that cannot be read.
    pub(crate) fn malformed(what: impl Into<String>, cause: impl ToString) -> Self {
        Self::Malformed {
            what: what.into(),
            cause: cause.to_string(),
        }
    }

    /// The same error with where it happened in front.
    pub(crate) fn within(self, context: impl Into<String>) -> Self {
        Self::Context {
            context: context.into(),
            source: Box::new(self),
        }
    }

    /// The innermost error.
    pub fn root(&self) -> &Error {
        match self {
            Self::Context { source, .. } => source.root(),
            other => other,
        }
    }

    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.root(), Self::NotFound(_) | Self::Platform(_))
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        match self.root() {
            Self::Request { .. } => true,
            Self::Status { status, .. } => status.starts_with('5') || status.starts_with("429"),
            _ => false,
        }
    }
}
