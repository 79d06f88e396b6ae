//! A store whose requests are spans, named as etcd's. Upstream: the spans of etcd's client.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use store::backend::{Backend, WatchStream};
use store::{Acks, Error, LeaseInfo, Op, Range, RangeResponse, Store, Txn, TxnResponse};
use webhook::trace::{Kind, Span, child};

struct Traced(Store);

/// The store, told of.
pub fn traced(inner: Store) -> Store {
    Store::new(Traced(inner))
}

fn begin(name: &str, key: &[u8]) -> Option<Span> {
    let mut span = child(name, Kind::Client)?;
    span.set("key", String::from_utf8_lossy(key).into_owned());
    Some(span)
}

fn end<T>(span: Option<Span>, done: &Result<T, Error>) {
    if let (Some(mut span), Err(error)) = (span, done) {
        span.fail(error.to_string());
    }
}

#[async_trait]
impl Backend for Traced {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let key = txn.success.first().map(|op| match op {
            Op::Put { key, .. }
            | Op::Get { key }
            | Op::Delete { key }
            | Op::DeleteRange { key, .. } => key.clone(),
        });
        let span = begin("etcdserverpb.KV/Txn", &key.unwrap_or_default());
        let done = self.0.txn(txn).await;
        end(span, &done);
        done
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        let span = begin("etcdserverpb.KV/Range", &range.key);
        let done = self.0.range(range).await;
        end(span, &done);
        done
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        self.0.watch(range, start_revision).await
    }

    fn follow(&self, range: Range) -> Option<Acks> {
        self.0.follow(range)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.0.request_progress().await
    }

    async fn revision(&self) -> Result<u64, Error> {
        self.0.revision().await
    }

    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        self.0.lease_grant(id, ttl).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        self.0.lease_keep_alive(id).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.0.lease_revoke(id).await
    }

    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        self.0.lease_time_to_live(id).await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.0.compact(revision).await
    }

    async fn size(&self) -> Result<u64, Error> {
        self.0.size().await
    }

    async fn snapshot(&self, to: &Path) -> Result<u64, Error> {
        self.0.snapshot(to).await
    }

    async fn verify(&self) -> Result<(), Error> {
        self.0.verify().await
    }
}
