//! The store: etcd v3 semantics behind one `Backend` trait. A revision per transaction,
//! compare-and-set, ranges at a revision, watches without gap or duplicate, leases, compaction.

#![forbid(unsafe_code)]

pub mod backend;
mod check;
pub mod conformance;
pub mod error;
pub mod etcd;
mod file;
mod held;
mod hub;
pub mod kine;
pub mod limits;
mod pace;
pub mod sqlite;
pub mod types;
mod work;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use backend::{Backend, WatchStream};
pub use error::{Error, WriteError};
pub use held::Acks;
pub use types::{
    Compare, Comparison, Event, KeyValue, LeaseInfo, Op, OpResult, Range, RangeResponse, Target,
    Txn, TxnResponse, WatchBatch, prefix_end,
};

/// A store, whichever backend keeps it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

// === Store ===

impl Store {
    /// A store over a backend.
    pub fn new(backend: impl Backend) -> Self {
        Self {
            backend: Arc::new(backend),
        }
    }

    /// Writes a key that must not exist; gives its revision.
    pub async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<u64, WriteError> {
        let compare = Compare::absent(key.clone());
        self.conditional(compare, Op::Put { key, value, lease })
            .await
    }

    /// Writes a key that must still be at `expected`; gives the new revision.
    pub async fn update(
        &self,
        key: Bytes,
        value: Bytes,
        expected: u64,
        lease: i64,
    ) -> Result<u64, WriteError> {
        let compare = Compare::unchanged(key.clone(), expected);
        self.conditional(compare, Op::Put { key, value, lease })
            .await
    }

    /// Deletes a key that must still be at `expected`; gives the deletion's revision.
    pub async fn delete(&self, key: Bytes, expected: u64) -> Result<u64, WriteError> {
        let compare = Compare::unchanged(key.clone(), expected);
        self.conditional(compare, Op::Delete { key }).await
    }

    async fn conditional(&self, compare: Compare, op: Op) -> Result<u64, WriteError> {
        let key = compare.key.clone();
        let txn = Txn {
            compares: vec![compare],
            success: vec![op],
            failure: vec![Op::Get { key }],
        };
        let mut answer = self.backend.txn(txn).await?;
        if answer.succeeded {
            return Ok(answer.revision);
        }
        match answer.results.pop() {
            Some(OpResult::Got(now)) => Err(WriteError::Conflict(now)),
            _ => Err(WriteError::Conflict(None)),
        }
    }

    /// One key, newest state.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        Ok(self.backend.range(Range::one(key)).await?.kvs.pop())
    }

    /// See `Backend::txn`.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.backend.txn(txn).await
    }

    /// See `Backend::range`.
    pub async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        self.backend.range(range).await
    }

    /// See `Backend::watch`.
    pub async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        self.backend.watch(range, start_revision).await
    }

    /// See `Backend::follow`.
    pub fn follow(&self, range: Range) -> Option<Acks> {
        self.backend.follow(range)
    }

    /// See `Backend::revision`.
    pub async fn revision(&self) -> Result<u64, Error> {
        self.backend.revision().await
    }

    /// See `Backend::lease_grant`.
    pub async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        self.backend.lease_grant(id, ttl).await
    }

    /// See `Backend::lease_keep_alive`.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        self.backend.lease_keep_alive(id).await
    }

    /// See `Backend::lease_revoke`.
    pub async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.backend.lease_revoke(id).await
    }

    /// See `Backend::lease_time_to_live`.
    pub async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        self.backend.lease_time_to_live(id).await
    }

    /// See `Backend::request_progress`.
    pub async fn request_progress(&self) -> Result<(), Error> {
        self.backend.request_progress().await
    }

    /// See `Backend::snapshot`.
    pub async fn snapshot(&self, to: &Path) -> Result<u64, Error> {
        self.backend.snapshot(to).await
    }

    /// See `Backend::verify`.
    pub async fn verify(&self) -> Result<(), Error> {
        self.backend.verify().await
    }

    /// SHA-256 over all keys as they are at one revision (0: now), and that revision. Stores with
    /// the same contents have the same hash, whichever backend keeps them.
    pub async fn hash(&self, revision: u64) -> Result<(u64, [u8; 32]), Error> {
        let mut hash = Sha256::new();
        let mut page = Range {
            limit: limits::HASH_PAGE,
            revision,
            ..Range::prefix(Bytes::new())
        };
        loop {
            let answer = self.range(page.clone()).await?;
            if page.revision == 0 {
                page.revision = answer.revision;
            }
            for kv in &answer.kvs {
                for part in [&kv.key, &kv.value] {
                    hash.update((part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
                for n in [kv.create_revision, kv.mod_revision, kv.version] {
                    hash.update(n.to_le_bytes());
                }
                hash.update(kv.lease.to_le_bytes());
            }
            match answer.kvs.last() {
                Some(last) if answer.more => page.key = [&last.key[..], &[0]].concat().into(),
                _ => return Ok((page.revision, hash.finalize().into())),
            }
        }
    }

    /// See `Backend::compact`.
    pub async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.backend.compact(revision).await
    }

    /// See `Backend::size`.
    pub async fn size(&self) -> Result<u64, Error> {
        self.backend.size().await
    }

    /// Forgets history older than `keep`, a fifth of `keep` at a time, until the store closes: what
    /// kube-apiserver does to etcd with five minutes. History of more than
    /// `limits::HISTORY_REVISIONS` is cut even if it is younger.
    pub async fn compact_forever(self, keep: Duration) {
        let mut history = History::default();
        loop {
            tokio::time::sleep(keep / 5).await;
            let now = match self.revision().await {
                Ok(now) => now,
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the store's revision is not known");
                    continue;
                }
            };
            let Some(revision) = history.plan(Instant::now(), now, keep) else {
                continue;
            };
            match self.compact(revision).await {
                Ok(()) => history.compacted = revision,
                // Another server of the same store was first.
                Err(Error::Compacted { compact_revision }) => history.compacted = compact_revision,
                Err(Error::Closed) => return,
                Err(error) => tracing::warn!(%error, revision, "compaction failed"),
            }
        }
    }
}

/// When which revision was the newest.
#[derive(Default)]
struct History {
    samples: VecDeque<(Instant, u64)>,
    compacted: u64,
}

impl History {
    /// Notes the newest revision and tells up to where to compact, if at all.
    fn plan(&mut self, time: Instant, newest: u64, keep: Duration) -> Option<u64> {
        self.samples.push_back((time, newest));
        let mut target = 0;
        while let Some((then, revision)) = self.samples.front().copied() {
            if time.duration_since(then) < keep {
                break;
            }
            target = revision;
            self.samples.pop_front();
        }
        let target = target.max(newest.saturating_sub(limits::HISTORY_REVISIONS));
        (target > self.compacted).then_some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_cut_by_age_and_by_length() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let keep = Duration::from_secs(300);
        let mut h = History::default();
        assert_eq!(h.plan(at(0), 100, keep), None);
        assert_eq!(h.plan(at(60), 200, keep), None);
        assert_eq!(h.plan(at(300), 300, keep), Some(100));
        h.compacted = 100;
        assert_eq!(h.plan(at(301), 300, keep), None);
        assert_eq!(h.plan(at(420), 300, keep), Some(200));
        h.compacted = 200;
        let many = 1_000 + limits::HISTORY_REVISIONS;
        assert_eq!(h.plan(at(421), many, keep), Some(1_000));
    }
}
