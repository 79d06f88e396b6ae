//! The seam: what a store is, at the level of etcd's semantics. SQLite (`sqlite`) keeps them itself,
//! a real etcd (`etcd`) is asked to. Every backend passes `conformance`.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;

use crate::error::Error;
use crate::held::Acks;
use crate::types::{LeaseInfo, Range, RangeResponse, Txn, TxnResponse, WatchBatch};

/// Watch batches in order of revision; ends after the first error.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch, Error>> + Send>>;

/// etcd v3 semantics over some storage.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Carries out a transaction atomically. When it returns, the effect is durable and visible.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error>;

    /// Reads keys in order.
    async fn range(&self, range: Range) -> Result<RangeResponse, Error>;

    /// All events in the range from `start_revision` on (0: from the next one), without gap or
    /// duplicate; all events of one revision come in one batch.
    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error>;

    /// Has writes in a range answered only once their follower says that it has taken them over from its watch. `None` where
    /// answers do not wait for that.
    fn follow(&self, _: Range) -> Option<Acks> {
        None
    }

    /// Has every live watch give, after the events up to now, a batch without events at the present
    /// revision. A watch that is behind may leave it out; ask again.
    async fn request_progress(&self) -> Result<(), Error>;

    /// The newest revision.
    async fn revision(&self) -> Result<u64, Error>;

    /// Makes a lease; `id` 0 lets the store choose. Gives the id.
    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error>;

    /// Prolongs a lease by its whole lifetime, which is returned.
    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error>;

    /// Ends a lease and deletes its keys.
    async fn lease_revoke(&self, id: i64) -> Result<(), Error>;

    /// A lease's lifetime and keys.
    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error>;

    /// Forgets history up to and including `revision` but for the newest state of each key.
    async fn compact(&self, revision: u64) -> Result<(), Error>;

    /// Bytes on disk.
    async fn size(&self) -> Result<u64, Error>;

    /// Writes everything, as it is at one moment, to a new file (mode 0600) that this kind of store
    /// can begin from; durable on return. Gives its size. Writes go on meanwhile.
    async fn snapshot(&self, to: &Path) -> Result<u64, Error>;

    /// Looks for damage; reads everything, so it is slow. An error tells what is damaged.
    async fn verify(&self) -> Result<(), Error>;
}
