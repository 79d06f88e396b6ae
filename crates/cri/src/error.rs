//! Errors of the node's seams, with the gRPC code a CRI client would see.

/// gRPC codes that callers act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    InvalidArgument,
    FailedPrecondition,
    DeadlineExceeded,
    Unavailable,
    Unimplemented,
    ResourceExhausted,
    Internal,
}

/// A failed call. `reason` is upstream's well-known code where one exists (`ErrImagePull`,
/// `RegistryUnavailable`, `SignatureValidationFailed`, `RunContainerError`, `CreateContainerError`),
/// else empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub reason: &'static str,
    pub message: String,
}

// === Error ===

impl Error {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            reason: "",
            message: message.into(),
        }
    }

    /// `NotFound`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// `Internal`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with a well-known reason.
    pub fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }
}
