//! What the tasks of one store share: how far its watchers are, and connections that read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::row::Row;
use super::session::{Connector, Dialect, Fault, Purpose, Session};
use super::sql::{self, Last};
use crate::error::Error;
use crate::hub::Hub;
use crate::limits;
use crate::types::WatchBatch;

/// Pauses between repeats.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A pause that grows.
pub struct Pause(Duration);

impl Pause {
    pub fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LAST_PAUSE);
    }
}

/// What the tasks of one store share.
pub struct Shared {
    pub connector: Connector,
    pub hub: Hub,
    /// The last row watchers have been told of; held while they are told.
    position: Mutex<i64>,
    moved: watch::Sender<i64>,
    /// Somebody has written.
    pub poke: Arc<Notify>,
    /// Leases were made or prolonged here.
    pub leases: Notify,
    /// Keys that end by kine's time to live, by when and by their revision.
    pub mortal: Mutex<BTreeMap<(Instant, u64), Bytes>>,
    idle: Mutex<Vec<Box<dyn Session>>>,
    permits: Semaphore,
}

impl Shared {
    pub fn new(connector: Connector, poke: Arc<Notify>, last: &Last, compacted: u64) -> Self {
        Self {
            connector,
            hub: Hub::new(last.revision, compacted),
            position: Mutex::new(last.id),
            moved: watch::channel(last.id).0,
            poke,
            leases: Notify::new(),
            mortal: Mutex::new(BTreeMap::new()),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(limits::SQL_READERS),
        }
    }

    pub fn dialect(&self) -> &'static Dialect {
        self.connector.dialect
    }

    /// The last row watchers have been told of.
    pub fn position(&self) -> i64 {
        *self.position.lock()
    }

    /// Tells watchers of rows this process has written, unless others are missing before them.
    pub fn publish_own(&self, first: i64, last: i64, batches: &[WatchBatch]) {
        let mut position = self.position.lock();
        if *position + 1 == first {
            self.hub.publish(batches);
            *position = last;
            self.moved.send_replace(last);
        } else {
            self.poke.notify_one();
        }
    }

    /// Tells watchers of rows that were read after `from`, unless that was done meanwhile.
    pub fn publish_read(&self, from: i64, last: i64, batches: &[WatchBatch]) {
        let mut position = self.position.lock();
        if *position == from {
            self.hub.publish(batches);
            *position = last;
            self.moved.send_replace(last);
        }
    }

    /// Cuts watchers off: rows up to `last` are gone before they could be told.
    pub fn skip(&self, last: i64) {
        let mut position = self.position.lock();
        self.hub.cut_off();
        *position = last;
        self.moved.send_replace(last);
    }

    /// Waits until watchers have been told of a row.
    pub async fn reach(&self, id: i64) -> Result<(), Error> {
        let mut moved = self.moved.subscribe();
        let reached = moved.wait_for(|at| *at >= id);
        match tokio::time::timeout(limits::SQL_CALL, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Backend {
                operation: "read",
                message: format!("row {id} is there, but not all before it"),
            }),
        }
    }

    /// Notes when a row of kine ends.
    pub fn note(&self, row: &Row) {
        if row.ttl <= 0 || row.lease.is_some() || row.deleted {
            return;
        }
        let mut mortal = self.mortal.lock();
        if mortal.len() < limits::LEASES {
            let ends = Instant::now() + Duration::from_secs(row.ttl.unsigned_abs());
            mortal.insert((ends, row.revision()), row.key.clone());
            self.leases.notify_one();
        }
    }

    /// Reads on a connection, again and again until it works, cannot work, or the time is up.
    pub async fn read<T>(
        &self,
        operation: &'static str,
        f: impl for<'a> Fn(&'a mut dyn Session, &'static Dialect) -> BoxFuture<'a, Result<T, Fault>>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limits::SQL_CALL;
        let mut pause = Pause::new();
        loop {
            let once = tokio::time::timeout_at(deadline, self.read_once(&f)).await;
            match once {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Fault::Lost(why) | Fault::Again(why))) if Instant::now() < deadline => {
                    tracing::debug!(operation, why, "read from the database is repeated");
                }
                Ok(Err(fault)) => return Err(fault.error(operation)),
                Err(_) => {
                    let why = Fault::Lost("no answer in time".into());
                    return Err(why.error(operation));
                }
            }
            pause.wait().await;
        }
    }

    async fn read_once<T>(
        &self,
        f: &impl for<'a> Fn(&'a mut dyn Session, &'static Dialect) -> BoxFuture<'a, Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| Fault::Refused("the store is closed".into()))?;
        let idle = self.idle.lock().pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.connector.connect(Purpose::Read).await?,
        };
        session.begin().await?;
        let done = f(&mut *session, self.dialect()).await;
        match done {
            // What was only read needs no commit, but its locks are let go by one.
            Ok(_) => session.commit().await?,
            Err(Fault::Lost(_)) => self.idle.lock().clear(),
            Err(_) => session.rollback().await?,
        }
        if !matches!(done, Err(Fault::Lost(_))) {
            self.idle.lock().push(session);
        }
        done
    }

    /// Where the table is, and whether nothing is missing before that.
    pub async fn last(
        &self,
        s: &mut dyn Session,
        d: &'static Dialect,
    ) -> Result<(Last, bool), Fault> {
        let last = sql::last(s, d).await?;
        let seen = self.position();
        let whole = last.id <= seen || sql::count(s, seen, last.id).await? == last.id - seen;
        Ok((last, whole))
    }
}
