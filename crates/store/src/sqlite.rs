//! The embedded backend: SQLite in WAL mode with `synchronous=FULL`, one writer thread that commits
//! concurrent transactions together. Nothing is visible before it is durable.

mod compact;
mod migrate;
mod pending;
mod reader;
mod schema;
mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::{Backend, WatchStream};
use crate::check;
use crate::error::Error;
use crate::held::Acks;
use crate::hub::{self, Hub};
use crate::limits;
use crate::types::{LeaseInfo, Range, RangeResponse, Txn, TxnResponse};
use crate::work::{Reply, Work};
use writer::Writer;

/// A SQLite file as a store. Dropping it closes the file after the writes in flight.
pub struct Sqlite {
    path: PathBuf,
    work: mpsc::Sender<Work>,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
}

/// A few read connections shared by all reads.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    freed: Condvar,
}

// === Sqlite ===

impl Sqlite {
    /// Opens or creates the file (mode 0600), which one process at a time may have. A file of kine's is
    /// replaced by one with the same keys, and kept beside it. Blocks while it
    /// recovers what a killed process left. Must be called inside a tokio runtime.
    /// `fatal` receives the reason when the writer cannot go on: the owner must end the process.
    pub fn open(path: &Path, fatal: oneshot::Sender<String>) -> Result<Self, Error> {
        Self::open_with_quota(path, limits::QUOTA_BYTES, fatal)
    }

    /// The same with a bound in bytes on the file: writes past it fail with `NoSpace` until a
    /// compaction has made room.
    pub fn open_with_quota(
        path: &Path,
        quota: u64,
        fatal: oneshot::Sender<String>,
    ) -> Result<Self, Error> {
        let lock = schema::lock(&beside(path, "-lock"))?;
        migrate::of_kine(path, quota)?;
        let mut connection = schema::open(path, quota)?;
        let state = schema::load(&mut connection)?;
        let hub = Arc::new(Hub::new(state.revision, state.compacted));
        hub.set_lease_end(state.lease_end());
        let mut idle = Vec::new();
        for _ in 0..limits::READERS {
            idle.push(schema::open_reader(path)?);
        }
        let readers = Arc::new(Readers {
            idle: Mutex::new(idle),
            freed: Condvar::new(),
        });
        let (work, waiting) = mpsc::channel(limits::WRITE_QUEUE);
        let published = hub.clone();
        let wal = beside(path, "-wal");
        let body = move || {
            let writer = Writer {
                connection,
                state,
                hub: &published,
                wal,
            };
            // A writer that panicked may have told nobody what it did.
            let run = std::panic::AssertUnwindSafe(|| writer.run(waiting));
            let ended =
                std::panic::catch_unwind(run).unwrap_or_else(|_| Err("the writer panicked".into()));
            if let Err(reason) = ended {
                // The owner may have gone first; then there is nobody to tell.
                let _ = fatal.send(reason);
            }
            published.close();
            drop(lock);
        };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(body)
            .map_err(|e| backend("start the writer", e))?;
        tokio::spawn(tick(work.downgrade(), hub.lease_end()));
        Ok(Self {
            path: path.into(),
            work,
            hub,
            readers,
        })
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Work) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.work
            .send(make(reply))
            .await
            .map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.readers.clone();
        let done = tokio::task::spawn_blocking(move || readers.with(f)).await;
        done.map_err(|e| backend("read", e))?
    }
}

/// Has the writer look at the leases when one ends, as long as the store is there.
async fn tick(work: mpsc::WeakSender<Work>, mut lease_end: watch::Receiver<Option<Instant>>) {
    loop {
        let end = *lease_end.borrow_and_update();
        let ended = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = lease_end.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = ended => {}
        }
        let Some(work) = work.upgrade() else { return };
        if work.send(Work::Tick).await.is_err() {
            return;
        }
        drop(work);
        // Leases that end one shortly after the other go together.
        tokio::time::sleep(limits::LEASE_TICK).await;
    }
}

impl Readers {
    fn with<T>(&self, f: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut idle = self.idle.lock();
        let mut connection = loop {
            match idle.pop() {
                Some(c) => break c,
                None => self.freed.wait(&mut idle),
            }
        };
        drop(idle);
        let result = f(&mut connection);
        self.idle.lock().push(connection);
        self.freed.notify_one();
        result
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        check::txn(&txn)?;
        self.ask(|reply| Work::Txn(txn, reply)).await
    }

    async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        let hub = self.hub.clone();
        self.read(move |c| {
            loop {
                let current = hub.revision();
                if range.revision > current {
                    return Err(Error::FutureRevision {
                        asked: range.revision,
                        current,
                    });
                }
                let at = match range.revision {
                    0 => current,
                    at => at,
                };
                let answer = reader::range(c, &range, at, current)?;
                // Asked after the read: a compaction meanwhile may have taken rows away.
                let compact_revision = hub.compacted();
                if at >= compact_revision {
                    return Ok(answer);
                }
                if range.revision != 0 {
                    return Err(Error::Compacted { compact_revision });
                }
            }
        })
        .await
    }

    async fn watch(&self, range: Range, start_revision: u64) -> Result<WatchStream, Error> {
        let (after, live) = self.hub.subscribe(range.clone())?;
        let compact_revision = self.hub.compacted();
        if start_revision != 0 && start_revision < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        let live = hub::live(live, start_revision);
        if start_revision == 0 || start_revision > after {
            return Ok(live.boxed());
        }
        let past = Past {
            readers: self.readers.clone(),
            hub: self.hub.clone(),
            range,
            next: start_revision,
            until: after,
            ready: VecDeque::new(),
            failed: false,
        };
        let past = futures::stream::unfold(past, |mut past| async move {
            let item = past.next().await?;
            Some((item, past))
        });
        Ok(hub::until_error(past.chain(live)).boxed())
    }

    fn follow(&self, range: Range) -> Option<Acks> {
        Some(self.hub.held().follow(range))
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.hub.request_progress();
        Ok(())
    }

    async fn revision(&self) -> Result<u64, Error> {
        if self.hub.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(self.hub.revision())
        }
    }

    async fn lease_grant(&self, id: i64, ttl: Duration) -> Result<i64, Error> {
        self.ask(|reply| Work::LeaseGrant(id, ttl, reply)).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<Duration, Error> {
        self.ask(|reply| Work::LeaseKeepAlive(id, reply)).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.ask(|reply| Work::LeaseRevoke(id, reply)).await
    }

    async fn lease_time_to_live(&self, id: i64) -> Result<LeaseInfo, Error> {
        self.ask(|reply| Work::LeaseInfo(id, reply)).await
    }

    async fn compact(&self, revision: u64) -> Result<(), Error> {
        self.ask(|reply| Work::Compact(revision, reply)).await
    }

    async fn size(&self) -> Result<u64, Error> {
        let mut total = 0;
        for suffix in ["", "-wal"] {
            total += std::fs::metadata(beside(&self.path, suffix)).map_or(0, |m| m.len());
        }
        Ok(total)
    }

    async fn snapshot(&self, to: &Path) -> Result<u64, Error> {
        let (from, to) = (self.path.clone(), to.to_path_buf());
        let done = tokio::task::spawn_blocking(move || schema::snapshot(&from, &to)).await;
        done.map_err(|e| backend("snapshot", e))?
    }

    async fn verify(&self) -> Result<(), Error> {
        self.read(reader::verify).await
    }
}

/// The part of a watch that lies in the past, read page by page.
struct Past {
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    range: Range,
    next: u64,
    until: u64,
    ready: VecDeque<crate::WatchBatch>,
    failed: bool,
}

impl Past {
    async fn next(&mut self) -> Option<Result<crate::WatchBatch, Error>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            if self.failed || self.next > self.until {
                return None;
            }
            if let Err(e) = self.page().await {
                self.failed = true;
                return Some(Err(e));
            }
        }
    }

    async fn page(&mut self) -> Result<(), Error> {
        let (readers, range) = (self.readers.clone(), self.range.clone());
        let (from, until) = (self.next, self.until);
        let done = tokio::task::spawn_blocking(move || {
            readers.with(|c| reader::history(c, &range, from, until))
        })
        .await;
        let (batches, next) = done.map_err(|e| backend("read history", e))??;
        let compact_revision = self.hub.compacted();
        if from < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        self.ready = batches.into();
        self.next = next;
        Ok(())
    }
}

fn backend(operation: &'static str, e: impl std::fmt::Display) -> Error {
    Error::Backend {
        operation,
        message: e.to_string(),
    }
}

/// SQLite's error as the store's. Where the disk failed, nobody knows what it holds.
fn failed(operation: &'static str, e: &rusqlite::Error) -> Error {
    let message = e.to_string();
    match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Error::NoSpace,
        Some(rusqlite::ErrorCode::SystemIoFailure) => Error::Uncertain { operation, message },
        _ => Error::Backend { operation, message },
    }
}

/// Whether the file or the disk is broken or the rows contradict each other: going on could build on what is not there. After a
/// failed fsync in particular, a later one tells nothing about the earlier pages.
fn is_fatal(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        ConstraintViolation, DatabaseCorrupt, NotADatabase, SystemIoFailure,
    };
    matches!(
        e.sqlite_error_code(),
        Some(ConstraintViolation | DatabaseCorrupt | NotADatabase | SystemIoFailure)
    )
}

/// The file that SQLite keeps beside its database under this suffix.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
