//! The one writer: takes what waits, carries it out in one SQLite transaction, commits durably, and
//! only then tells watchers and callers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::hub::Hub;
use super::reader::{self, to_i64};
use super::schema::{Lease, State};
use crate::error::Error;
use crate::limits;
use crate::types::{Event, KeyValue, LeaseInfo, Op, OpResult, Range, Txn, TxnResponse, WatchBatch};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One request to the writer.
pub struct Request {
    pub work: Work,
}

/// What the writer does.
pub enum Work {
    Txn(Txn, Reply<TxnResponse>),
    LeaseGrant(i64, Duration, Reply<i64>),
    LeaseKeepAlive(i64, Reply<Duration>),
    LeaseRevoke(i64, Reply<()>),
    LeaseInfo(i64, Reply<LeaseInfo>),
    Compact(u64, Reply<()>),
}

/// Sends an answer once the batch is durable, or the batch's failure instead.
type Answer = Box<dyn FnOnce(Result<(), Error>)>;

/// How often leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(500);

/// Rows a compaction deletes in one commit, so that writes are not held up for long.
const COMPACT_ROWS: usize = 2_000;

/// Works until all senders are gone. An error is a state in which going on could lose writes.
pub fn run(
    mut c: Connection,
    mut state: State,
    mut waiting: mpsc::Receiver<Request>,
    hub: &Hub,
) -> Result<(), String> {
    let mut batch = Vec::new();
    let mut next_tick = Instant::now() + LEASE_TICK;
    let timer = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| format!("the writer's timer: {e}"))?;
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        let many = waiting.recv_many(&mut batch, limits::GROUP_COMMIT);
        match timer.block_on(async { tokio::time::timeout(wait, many).await }) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(_) => {}
        }
        let expired = if Instant::now() >= next_tick {
            next_tick = Instant::now() + LEASE_TICK;
            expired_leases(&state)
        } else {
            Vec::new()
        };
        if batch.is_empty() && expired.is_empty() {
            continue;
        }
        commit(
            &mut c,
            &mut state,
            hub,
            std::mem::take(&mut batch),
            &expired,
        )?;
    }
}

fn expired_leases(state: &State) -> Vec<i64> {
    let now = Instant::now();
    state
        .leases
        .iter()
        .filter(|(_, l)| l.ends <= now)
        .map(|(id, _)| *id)
        .collect()
}

/// Carries out one batch. A failed commit is answered to every caller and leaves the state as it was.
fn commit(
    c: &mut Connection,
    state: &mut State,
    hub: &Hub,
    batch: Vec<Request>,
    expired: &[i64],
) -> Result<(), String> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut compacts = Vec::new();
    let mut work = Vec::new();
    for request in batch {
        match request.work {
            Work::Compact(revision, reply) => compacts.push((revision, reply)),
            other => work.push(other),
        }
    }
    let mut pending = Pending {
        revision: state.revision,
        batches: Vec::new(),
        lease_changes: Vec::new(),
    };
    let done = (|| -> rusqlite::Result<()> {
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for item in work {
            if let Some(answer) = pending.carry_out(&tx, state, item)? {
                answers.push(answer);
            }
        }
        for id in expired {
            pending.end_lease(&tx, *id)?;
        }
        if pending.revision != state.revision {
            let mut set =
                tx.prepare_cached("UPDATE number SET value = ?1 WHERE name = 'revision'")?;
            set.execute([to_i64(pending.revision)])?;
        }
        tx.commit()
    })();
    match done {
        Ok(()) => {
            for change in pending.lease_changes {
                change.apply(state);
            }
            state.revision = pending.revision;
            hub.publish(&pending.batches);
            for answer in answers {
                answer(Ok(()));
            }
        }
        Err(error) => {
            tracing::error!(%error, "commit failed, nothing of it took effect");
            let failed = Error::Backend {
                operation: "commit",
                message: error.to_string(),
            };
            for answer in answers {
                answer(Err(failed.clone()));
            }
            if is_corrupt(&error) {
                return Err(format!("the database is damaged: {error}"));
            }
        }
    }
    for (revision, reply) in compacts {
        // The caller may have given up waiting.
        let _ = reply.send(compact(c, state, hub, revision));
    }
    Ok(())
}

fn is_corrupt(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// A change of the leases in memory, made once the batch is durable.
enum LeaseChange {
    Granted(i64, Duration),
    Prolonged(i64),
    Ended(i64),
}

impl LeaseChange {
    fn apply(self, state: &mut State) {
        let now = Instant::now();
        match self {
            Self::Granted(id, ttl) => {
                state.leases.insert(
                    id,
                    Lease {
                        ttl,
                        ends: now + ttl,
                    },
                );
            }
            Self::Prolonged(id) => {
                if let Some(lease) = state.leases.get_mut(&id) {
                    lease.ends = now + lease.ttl;
                }
            }
            Self::Ended(id) => {
                state.leases.remove(&id);
            }
        }
    }
}

/// What a batch will change once it is durable.
struct Pending {
    revision: u64,
    batches: Vec<WatchBatch>,
    lease_changes: Vec<LeaseChange>,
}

impl Pending {
    fn carry_out(
        &mut self,
        c: &Connection,
        state: &State,
        work: Work,
    ) -> rusqlite::Result<Option<Answer>> {
        Ok(match work {
            Work::Txn(txn, reply) => {
                let result = self.txn(c, state, &txn)?;
                Some(answer(reply, result))
            }
            Work::LeaseGrant(id, ttl, reply) => {
                let result = self.grant(c, state, id, ttl)?;
                Some(answer(reply, result))
            }
            Work::LeaseKeepAlive(id, reply) => {
                let result = match state.leases.get(&id) {
                    Some(lease) => {
                        self.lease_changes.push(LeaseChange::Prolonged(id));
                        Ok(lease.ttl)
                    }
                    None => Err(Error::LeaseNotFound),
                };
                Some(answer(reply, result))
            }
            Work::LeaseRevoke(id, reply) => {
                let result = if state.leases.contains_key(&id) {
                    self.end_lease(c, id)?;
                    Ok(())
                } else {
                    Err(Error::LeaseNotFound)
                };
                Some(answer(reply, result))
            }
            Work::LeaseInfo(id, reply) => {
                let result = match state.leases.get(&id) {
                    Some(lease) => Ok(LeaseInfo {
                        granted: lease.ttl,
                        left: lease.ends.saturating_duration_since(Instant::now()),
                        keys: reader::leased(c, id)?,
                    }),
                    None => Err(Error::LeaseNotFound),
                };
                Some(answer(reply, result))
            }
            // Compactions were taken out of the batch before.
            Work::Compact(_, reply) => Some(answer(reply, Err(Error::Closed))),
        })
    }

    fn grant(
        &mut self,
        c: &Connection,
        state: &State,
        id: i64,
        ttl: Duration,
    ) -> rusqlite::Result<Result<i64, Error>> {
        if state.leases.len() >= limits::LEASES {
            return Ok(Err(Error::TooLarge("too many leases".into())));
        }
        let taken = |id: i64| {
            state.leases.contains_key(&id)
                || self
                    .lease_changes
                    .iter()
                    .any(|l| matches!(l, LeaseChange::Granted(g, _) if *g == id))
        };
        if id != 0 && taken(id) {
            return Ok(Err(Error::LeaseExists));
        }
        let mut id = id;
        // Revisions only grow, so the search ends soon.
        let mut candidate = to_i64(self.revision) << 20;
        while id == 0 {
            candidate += 1;
            if !taken(candidate) {
                id = candidate;
            }
        }
        let ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        c.prepare_cached("INSERT INTO lease VALUES (?1, ?2)")?
            .execute([id, ms])?;
        self.lease_changes.push(LeaseChange::Granted(id, ttl));
        Ok(Ok(id))
    }

    fn end_lease(&mut self, c: &Connection, id: i64) -> rusqlite::Result<()> {
        let keys = reader::leased(c, id)?;
        if !keys.is_empty() {
            let revision = self.revision + 1;
            let mut events = Vec::new();
            for key in keys {
                delete(c, &key, revision, &mut events)?;
            }
            self.finish(revision, events);
        }
        c.prepare_cached("DELETE FROM lease WHERE id = ?1")?
            .execute([id])?;
        self.lease_changes.push(LeaseChange::Ended(id));
        Ok(())
    }

    fn knows_lease(&self, state: &State, id: i64) -> bool {
        let ended = |l: &LeaseChange| matches!(l, LeaseChange::Ended(e) if *e == id);
        let granted = |l: &LeaseChange| matches!(l, LeaseChange::Granted(g, _) if *g == id);
        (state.leases.contains_key(&id) || self.lease_changes.iter().any(granted))
            && !self.lease_changes.iter().any(ended)
    }

    fn txn(
        &mut self,
        c: &Connection,
        state: &State,
        txn: &Txn,
    ) -> rusqlite::Result<Result<TxnResponse, Error>> {
        let mut succeeded = true;
        for compare in &txn.compares {
            if !compare.holds(reader::newest(c, &compare.key)?.as_ref()) {
                succeeded = false;
                break;
            }
        }
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for op in ops {
            if let Op::Put { lease, .. } = op
                && *lease != 0
                && !self.knows_lease(state, *lease)
            {
                return Ok(Err(Error::LeaseNotFound));
            }
        }
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Put { key, value, lease } => OpResult::Put {
                    before: put(c, (key, value, *lease), revision, &mut events)?,
                },
                Op::Delete { key } => OpResult::Deleted {
                    before: delete(c, key, revision, &mut events)?.into_iter().collect(),
                },
                Op::DeleteRange { key, end } => {
                    let range = Range {
                        key: key.clone(),
                        end: end.clone(),
                        ..Range::default()
                    };
                    let mut before = Vec::new();
                    for kv in reader::newest_range(c, &range)? {
                        before.extend(delete(c, &kv.key, revision, &mut events)?);
                    }
                    OpResult::Deleted { before }
                }
                Op::Get { key } => OpResult::Got(reader::newest(c, key)?),
            });
        }
        if !events.is_empty() {
            self.finish(revision, events);
        }
        Ok(Ok(TxnResponse {
            succeeded,
            revision: self.revision,
            results,
        }))
    }

    fn finish(&mut self, revision: u64, events: Vec<Event>) {
        self.revision = revision;
        self.batches.push(WatchBatch { revision, events });
    }
}

fn answer<T: 'static>(reply: Reply<T>, result: Result<T, Error>) -> Answer {
    Box::new(move |durable| {
        // The caller may have given up waiting; the write stands all the same.
        let _ = reply.send(durable.and(result));
    })
}

fn put(
    c: &Connection,
    (key, value, lease): (&Bytes, &Bytes, i64),
    revision: u64,
    events: &mut Vec<Event>,
) -> rusqlite::Result<Option<KeyValue>> {
    let before = reader::newest(c, key)?;
    let kv = KeyValue {
        key: key.clone(),
        value: value.clone(),
        create_revision: before.as_ref().map_or(revision, |b| b.create_revision),
        mod_revision: revision,
        version: before.as_ref().map_or(1, |b| b.version + 1),
        lease,
    };
    let mut insert =
        c.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7)")?;
    insert.execute(params![
        &key[..],
        to_i64(revision),
        events.len() as i64,
        to_i64(kv.create_revision),
        to_i64(kv.version),
        lease,
        &value[..],
    ])?;
    events.push(Event::Put {
        kv,
        before: before.clone(),
    });
    Ok(before)
}

fn delete(
    c: &Connection,
    key: &Bytes,
    revision: u64,
    events: &mut Vec<Event>,
) -> rusqlite::Result<Option<KeyValue>> {
    let Some(before) = reader::newest(c, key)? else {
        return Ok(None);
    };
    let mut insert =
        c.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, 1, 0, 0, 0, NULL)")?;
    insert.execute(params![&key[..], to_i64(revision), events.len() as i64])?;
    let event = Event::Delete {
        key: key.clone(),
        revision,
        before: Some(before.clone()),
    };
    events.push(event);
    Ok(Some(before))
}

/// Deletes superseded rows up to `revision`, some rows a commit.
fn compact(c: &mut Connection, state: &mut State, hub: &Hub, revision: u64) -> Result<(), Error> {
    if revision > state.revision {
        return Err(Error::FutureRevision {
            asked: revision,
            current: state.revision,
        });
    }
    if revision <= state.compacted {
        return Err(Error::Compacted {
            compact_revision: state.compacted,
        });
    }
    let failed = |e: rusqlite::Error| Error::Backend {
        operation: "compact",
        message: e.to_string(),
    };
    c.execute(
        "UPDATE number SET value = ?1 WHERE name = 'compacted'",
        [to_i64(revision)],
    )
    .map_err(failed)?;
    state.compacted = revision;
    hub.set_compacted(revision);
    loop {
        let gone = c
            .prepare_cached(
                "DELETE FROM history WHERE (key, revision) IN (
                   SELECT key, revision FROM history h WHERE revision <= ?1 AND (deleted = 1 OR EXISTS (
                     SELECT 1 FROM history n WHERE n.key = h.key AND n.revision > h.revision
                     AND n.revision <= ?1)) LIMIT ?2)",
            )
            .and_then(|mut s| s.execute([to_i64(revision), COMPACT_ROWS as i64]))
            .map_err(failed)?;
        if gone < COMPACT_ROWS {
            return Ok(());
        }
    }
}
