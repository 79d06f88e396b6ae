//! What can go wrong with a store call.

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is gone; etcd's `ErrCompacted`.
    #[error("required revision has been compacted, the oldest is {compact_revision}")]
    Compacted { compact_revision: u64 },
    /// The revision asked for lies in the future; etcd's `ErrFutureRev`.
    #[error("required revision {asked} is a future revision, the newest is {current}")]
    FutureRevision { asked: u64, current: u64 },
    /// A bound of `limits` was passed.
    #[error("{0}")]
    TooLarge(String),
    /// The same key is written twice by one transaction; etcd's `ErrDuplicateKey`.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// No such lease; etcd's `ErrLeaseNotFound`.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The lease exists already; etcd's `ErrLeaseExist`.
    #[error("lease already exists")]
    LeaseExists,
    /// The watcher was too slow and was cut off after `revision`; resume from the next one.
    #[error("the watcher lagged and was cut off after revision {revision}")]
    Lagged { revision: u64 },
    /// The backend could not carry out the operation; nothing of it took effect.
    #[error("store {operation}: {message}")]
    Backend {
        operation: &'static str,
        message: String,
    },
    /// The answer is missing: the operation may or may not have taken effect.
    #[error("store {operation}: it is not known whether it took effect: {message}")]
    Uncertain {
        operation: &'static str,
        message: String,
    },
    /// The value cannot be sealed as it must be; nothing took effect.
    #[error("{0}")]
    Unsealed(String),
    /// The quota or the disk is full; nothing took effect. Compaction makes room. etcd's `ErrNoSpace`.
    #[error("database space exceeded")]
    NoSpace,
    /// The store is closed or its writer ended.
    #[error("the store is closed")]
    Closed,
}

/// The result of a conditional write of one key.
#[derive(Clone, Debug)]
pub enum WriteError {
    /// The expectation did not hold; what is there now, if anything.
    Conflict(Option<crate::KeyValue>),
    /// Anything else.
    Store(Error),
}

impl From<Error> for WriteError {
    fn from(e: Error) -> Self {
        Self::Store(e)
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflict(_) => f.write_str("the key was changed by somebody else"),
            Self::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}
