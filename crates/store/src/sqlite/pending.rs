//! What a batch of requests does to the file and will do to the state once it is durable.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::reader::{self, to_i64};
use super::schema::{Lease, POSITIONS, State, row_id};
use crate::error::Error;
use crate::hub::Hub;
use crate::limits;
use crate::types::{Event, KeyValue, LeaseInfo, Op, OpResult, Range, Txn, TxnResponse, WatchBatch};
use crate::work::{Outcome, Work};

/// A key's row as it was before the transaction.
type Before = Option<(i64, KeyValue)>;

/// A change of the leases in memory.
enum LeaseChange {
    Granted(i64, Duration),
    Prolonged(i64),
    Ended(i64),
}

/// The effects of a batch so far.
pub struct Pending {
    revision: u64,
    batches: Vec<WatchBatch>,
    leases: Vec<LeaseChange>,
}

// === Pending ===

impl Pending {
    /// Nothing yet, after `revision`.
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            batches: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// The newest revision of the batch.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Makes the effects visible. Called once they are durable. Gives what was told.
    pub fn apply(self, state: &mut State, hub: &Hub) -> Vec<WatchBatch> {
        let now = Instant::now();
        for change in self.leases {
            match change {
                LeaseChange::Granted(id, ttl) => {
                    let ends = now + ttl;
                    state.leases.insert(id, Lease { ttl, ends });
                }
                LeaseChange::Prolonged(id) => {
                    if let Some(lease) = state.leases.get_mut(&id) {
                        lease.ends = now + lease.ttl;
                    }
                }
                LeaseChange::Ended(id) => {
                    state.leases.remove(&id);
                }
            }
        }
        state.revision = self.revision;
        hub.publish(&self.batches);
        self.batches
    }

    /// Carries out one request. An outer error is the file's and spoils the whole batch.
    pub fn carry_out(
        &mut self,
        c: &Connection,
        state: &State,
        work: &Work,
    ) -> rusqlite::Result<Result<Outcome, Error>> {
        Ok(match work {
            Work::Txn(txn, _) => self.txn(c, state, txn)?.map(Outcome::Txn),
            Work::LeaseGrant(id, ttl, _) => self.grant(c, state, *id, *ttl)?.map(Outcome::Lease),
            Work::LeaseKeepAlive(id, _) => match self.lifetime(state, *id) {
                Some(ttl) => {
                    self.leases.push(LeaseChange::Prolonged(*id));
                    Ok(Outcome::Lifetime(ttl))
                }
                None => Err(Error::LeaseNotFound),
            },
            Work::LeaseRevoke(id, _) => match self.lifetime(state, *id) {
                Some(_) => {
                    self.end_lease(c, *id)?;
                    Ok(Outcome::Done)
                }
                None => Err(Error::LeaseNotFound),
            },
            Work::LeaseInfo(id, _) => match self.lifetime(state, *id) {
                Some(granted) => Ok(Outcome::Info(LeaseInfo {
                    granted,
                    left: state.leases.get(id).map_or(granted, |l| {
                        l.ends.saturating_duration_since(Instant::now())
                    }),
                    keys: reader::leased(c, *id)?,
                })),
                None => Err(Error::LeaseNotFound),
            },
            // The writer takes these out of the batch.
            Work::Compact(..) | Work::Tick => Ok(Outcome::Done),
        })
    }

    /// The lifetime of a lease, if it exists at this point of the batch.
    fn lifetime(&self, state: &State, id: i64) -> Option<Duration> {
        for change in self.leases.iter().rev() {
            match change {
                LeaseChange::Granted(g, ttl) if *g == id => return Some(*ttl),
                LeaseChange::Ended(e) if *e == id => return None,
                _ => {}
            }
        }
        state.leases.get(&id).map(|l| l.ttl)
    }

    fn grant(
        &mut self,
        c: &Connection,
        state: &State,
        id: i64,
        ttl: Duration,
    ) -> rusqlite::Result<Result<i64, Error>> {
        if state.leases.len() + self.leases.len() >= limits::LEASES {
            return Ok(Err(Error::TooLarge("too many leases".into())));
        }
        if id != 0 && self.lifetime(state, id).is_some() {
            return Ok(Err(Error::LeaseExists));
        }
        let mut id = id;
        // Revisions only grow, so the search ends soon.
        let mut candidate = row_id(self.revision, 0);
        while id == 0 {
            candidate += 1;
            if self.lifetime(state, candidate).is_none() {
                id = candidate;
            }
        }
        let ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        c.prepare_cached("INSERT INTO lease VALUES (?1, ?2)")?
            .execute([id, ms])?;
        self.leases.push(LeaseChange::Granted(id, ttl));
        Ok(Ok(id))
    }

    /// Whether a lease begins, ends, or lasts longer.
    pub fn changes_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Ends a lease and deletes its keys, in one revision unless there are very many.
    pub fn end_lease(&mut self, c: &Connection, id: i64) -> rusqlite::Result<()> {
        for keys in reader::leased(c, id)?.chunks(POSITIONS) {
            let mut changes = Changes::new(c, self.revision + 1);
            for key in keys {
                let before = reader::newest(c, key)?;
                changes.delete(key, before)?;
            }
            self.finish(changes.events);
        }
        c.prepare_cached("DELETE FROM lease WHERE id = ?1")?
            .execute([id])?;
        self.leases.push(LeaseChange::Ended(id));
        Ok(())
    }

    fn txn(
        &mut self,
        c: &Connection,
        state: &State,
        txn: &Txn,
    ) -> rusqlite::Result<Result<TxnResponse, Error>> {
        let mut known: Vec<(&Bytes, Before)> = Vec::with_capacity(txn.compares.len());
        let mut succeeded = true;
        for compare in &txn.compares {
            let now = reader::newest(c, &compare.key)?;
            succeeded = compare.holds(now.as_ref().map(|(_, kv)| kv));
            known.push((&compare.key, now));
            if !succeeded {
                break;
            }
        }
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        // Everything that can be refused is refused before the first write: the batch goes on.
        if let Err(e) = self.check(c, state, ops)? {
            return Ok(Err(e));
        }
        let mut changes = Changes::new(c, self.revision + 1);
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(changes.op(op, &mut known)?);
        }
        self.finish(changes.events);
        Ok(Ok(TxnResponse {
            succeeded,
            revision: self.revision,
            results,
        }))
    }

    fn check(
        &self,
        c: &Connection,
        state: &State,
        ops: &[Op],
    ) -> rusqlite::Result<Result<(), Error>> {
        let mut size = ops.len();
        for op in ops {
            match op {
                Op::Put { lease, .. } if *lease != 0 && self.lifetime(state, *lease).is_none() => {
                    return Ok(Err(Error::LeaseNotFound));
                }
                Op::DeleteRange { key, end } => size += reader::keys(c, &span(key, end))?.len(),
                _ => {}
            }
        }
        if size > POSITIONS {
            return Ok(Err(Error::TooLarge("too many keys in txn request".into())));
        }
        Ok(Ok(()))
    }

    /// Closes a revision, if anything happened in it.
    fn finish(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        self.batches.push(WatchBatch {
            revision: self.revision,
            events,
        });
    }
}

fn span(key: &Bytes, end: &Bytes) -> Range {
    Range {
        key: key.clone(),
        end: end.clone(),
        ..Range::default()
    }
}

/// The rows of one revision as they are written.
struct Changes<'a> {
    c: &'a Connection,
    revision: u64,
    events: Vec<Event>,
}

impl<'a> Changes<'a> {
    fn new(c: &'a Connection, revision: u64) -> Self {
        Self {
            c,
            revision,
            events: Vec::new(),
        }
    }

    /// Carries out one operation. `known` holds what the compares have read.
    fn op(&mut self, op: &Op, known: &mut Vec<(&Bytes, Before)>) -> rusqlite::Result<OpResult> {
        Ok(match op {
            Op::Put { key, value, lease } => {
                let before = self.before(key, known)?;
                let before = self.put(key, value, *lease, before)?;
                OpResult::Put { before }
            }
            Op::Delete { key } => {
                let before = self.before(key, known)?;
                let before = self.delete(key, before)?;
                OpResult::Deleted {
                    before: before.into_iter().collect(),
                }
            }
            Op::DeleteRange { key, end } => {
                let mut deleted = Vec::new();
                for key in reader::keys(self.c, &span(key, end))? {
                    let before = reader::newest(self.c, &key)?;
                    deleted.extend(self.delete(&key, before)?);
                }
                OpResult::Deleted { before: deleted }
            }
            Op::Get { key } => OpResult::Got(self.before(key, known)?.map(|(_, kv)| kv)),
        })
    }

    /// The row of a key as it is now: what a compare read, as long as nothing was written.
    fn before(&self, key: &Bytes, known: &mut Vec<(&Bytes, Before)>) -> rusqlite::Result<Before> {
        if self.events.is_empty()
            && let Some(i) = known.iter().position(|(k, _)| *k == key)
        {
            return Ok(known.swap_remove(i).1);
        }
        reader::newest(self.c, key)
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: i64,
        before: Before,
    ) -> rusqlite::Result<Option<KeyValue>> {
        let (previous, before) = before.map_or((0, None), |(id, kv)| (id, Some(kv)));
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.as_ref().map_or(self.revision, |b| b.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(1, |b| b.version + 1),
            lease,
        };
        let mut insert = self
            .c
            .prepare_cached("INSERT INTO history VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7)")?;
        insert.execute(params![
            row_id(self.revision, self.events.len()),
            &key[..],
            to_i64(kv.create_revision),
            to_i64(kv.version),
            lease,
            previous,
            &value[..],
        ])?;
        self.events.push(Event::Put {
            kv,
            before: before.clone(),
        });
        Ok(before)
    }

    fn delete(&mut self, key: &Bytes, before: Before) -> rusqlite::Result<Option<KeyValue>> {
        let Some((previous, before)) = before else {
            return Ok(None);
        };
        let mut insert = self
            .c
            .prepare_cached("INSERT INTO history VALUES (?1, ?2, 1, 0, 0, 0, ?3, NULL)")?;
        let id = row_id(self.revision, self.events.len());
        insert.execute(params![id, &key[..], previous])?;
        self.events.push(Event::Delete {
            key: key.clone(),
            revision: self.revision,
            before: Some(before.clone()),
        });
        Ok(Some(before))
    }
}
