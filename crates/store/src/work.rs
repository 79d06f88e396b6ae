//! Requests to a writer, and what they lead to. Shared by the backends that keep etcd's semantics themselves.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::Error;
use crate::types::{LeaseInfo, Txn, TxnResponse};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One request to the writer.
pub enum Work {
    Txn(Txn, Reply<TxnResponse>),
    LeaseGrant(i64, Duration, Reply<i64>),
    LeaseKeepAlive(i64, Reply<Duration>),
    LeaseRevoke(i64, Reply<()>),
    LeaseInfo(i64, Reply<LeaseInfo>),
    Compact(u64, Reply<()>),
    /// Time to look at the leases.
    Tick,
}

/// What a request led to.
pub enum Outcome {
    Txn(TxnResponse),
    Lease(i64),
    Lifetime(Duration),
    Info(LeaseInfo),
    Done,
}

impl Work {
    /// Tells the caller. One that gave up waiting is not there to be told; what was done stands.
    pub fn answer(self, outcome: Result<Outcome, Error>) {
        let odd = || Error::Backend {
            operation: "answer",
            message: "the outcome does not fit the request".into(),
        };
        match self {
            Self::Txn(_, reply) => {
                let _ = reply.send(outcome.and_then(|o| match o {
                    Outcome::Txn(r) => Ok(r),
                    _ => Err(odd()),
                }));
            }
            Self::LeaseGrant(_, _, reply) => {
                let _ = reply.send(outcome.and_then(|o| match o {
                    Outcome::Lease(id) => Ok(id),
                    _ => Err(odd()),
                }));
            }
            Self::LeaseKeepAlive(_, reply) => {
                let _ = reply.send(outcome.and_then(|o| match o {
                    Outcome::Lifetime(ttl) => Ok(ttl),
                    _ => Err(odd()),
                }));
            }
            Self::LeaseInfo(_, reply) => {
                let _ = reply.send(outcome.and_then(|o| match o {
                    Outcome::Info(info) => Ok(info),
                    _ => Err(odd()),
                }));
            }
            Self::LeaseRevoke(_, reply) | Self::Compact(_, reply) => {
                let _ = reply.send(outcome.map(|_| ()));
            }
            Self::Tick => {}
        }
    }
}
