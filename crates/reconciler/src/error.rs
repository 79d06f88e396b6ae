//! Why a reconcile did not reach its end.

/// The error of a reconcile: its key is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{operation}: {}", client::message(source))]
    Api {
        operation: &'static str,
        #[source]
        source: client::Error,
    },
    /// A resource that the controller reads is not there.
    #[error(transparent)]
    NotServed(#[from] client::NotServed),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Names the operation of a failed request.
pub trait During<T> {
    /// The error as that of `operation`.
    fn during(self, operation: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, client::Error> {
    fn during(self, operation: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Api { operation, source })
    }
}

// === Error ===

impl Error {
    /// Whether another writer was faster: normal, and not worth a warning.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if client::is_conflict(source) || client::is_already_exists(source))
    }

    /// Whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if client::is_not_found(source))
    }
}
