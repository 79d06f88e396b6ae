//! The one writer: takes what waits, carries it out in one SQLite transaction, commits durably, and
//! only then tells watchers and callers.

use std::path::PathBuf;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use super::compact::Cleaning;
use super::pending::Pending;
use super::reader::to_i64;
use super::schema::State;
use super::{failed, is_fatal};
use crate::error::Error;
use crate::hub::Hub;
use crate::limits;
use crate::pace::Pace;
use crate::work::{Outcome, Reply, Work};

/// The writer and what it works on.
pub struct Writer<'a> {
    pub connection: Connection,
    pub state: State,
    pub hub: &'a Hub,
    pub wal: PathBuf,
}

impl Writer<'_> {
    /// Works until all senders are gone. An error is a state in which going on could lose writes.
    pub fn run(mut self, mut waiting: mpsc::Receiver<Work>) -> Result<(), String> {
        let mut cleaning = Cleaning::resume(&self.state);
        let mut pace = Pace::default();
        loop {
            let mut batch = Vec::new();
            // While a compaction runs there is work even if nobody asks for any.
            if !cleaning.is_running() {
                match waiting.blocking_recv() {
                    Some(work) => batch.push(work),
                    None => return Ok(()),
                }
            }
            gather(&mut batch, &mut waiting);
            let until = Instant::now() + pace.patience();
            let short = |n: usize| n < pace.expected() && Instant::now() < until;
            while !cleaning.is_running() && short(batch.len()) {
                std::thread::sleep(limits::GROUP_LOOK);
                gather(&mut batch, &mut waiting);
            }
            let (requests, begun) = (batch.len(), Instant::now());
            let compacts = self.commit(batch)?;
            pace.committed(requests, waiting.len(), begun.elapsed());
            for (revision, reply) in compacts {
                cleaning.begin(
                    &mut self.connection,
                    &mut self.state,
                    self.hub,
                    revision,
                    reply,
                );
            }
            cleaning.step(&mut self.connection, &mut self.state)?;
            self.bound_wal();
        }
    }

    /// Carries out one batch and gives the compactions in it. A failed commit is answered to every
    /// caller and leaves the state as it was.
    fn commit(&mut self, batch: Vec<Work>) -> Result<Vec<(u64, Reply<()>)>, String> {
        let (mut compacts, mut work, mut tick) = (Vec::new(), Vec::new(), false);
        for item in batch {
            match item {
                Work::Compact(revision, reply) => compacts.push((revision, reply)),
                Work::Tick => tick = true,
                other => work.push(other),
            }
        }
        let expired = if tick { self.expired() } else { Vec::new() };
        if work.is_empty() && expired.is_empty() {
            return Ok(compacts);
        }
        let mut pending = Pending::new(self.state.revision);
        match self.carry_out(&mut pending, &work, &expired) {
            Ok(outcomes) => {
                let leases = pending.changes_leases();
                let batches = pending.apply(&mut self.state, self.hub);
                if leases {
                    self.hub.set_lease_end(self.state.lease_end());
                }
                let answers = work.into_iter().zip(outcomes).collect();
                self.hub.held().answer(&batches, answers);
            }
            Err(e) => {
                tracing::error!(error = %e, "commit failed");
                for item in work {
                    item.answer(Err(failed("commit", &e)));
                }
                if is_fatal(&e) {
                    return Err(format!("commit: {e}"));
                }
            }
        }
        Ok(compacts)
    }

    fn carry_out(
        &mut self,
        pending: &mut Pending,
        work: &[Work],
        expired: &[i64],
    ) -> rusqlite::Result<Vec<Result<Outcome, Error>>> {
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(work.len());
        for item in work {
            outcomes.push(pending.carry_out(&tx, &self.state, item)?);
        }
        for id in expired {
            pending.end_lease(&tx, *id)?;
        }
        if pending.revision() != self.state.revision {
            let mut set =
                tx.prepare_cached("UPDATE number SET value = ?1 WHERE name = 'revision'")?;
            set.execute([to_i64(pending.revision())])?;
        }
        tx.commit()?;
        Ok(outcomes)
    }

    fn expired(&self) -> Vec<i64> {
        let now = Instant::now();
        let leases = self.state.leases.iter();
        leases
            .filter(|(_, l)| l.ends <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Cuts the WAL back where readers that follow one another kept SQLite from doing so itself.
    fn bound_wal(&self) {
        let size = std::fs::metadata(&self.wal).map_or(0, |m| m.len());
        if size <= limits::WAL_BYTES {
            return;
        }
        let cut = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| {
                r.get::<_, bool>(0)
            });
        match cut {
            Ok(false) => {}
            Ok(true) => tracing::warn!(size, "readers keep the write-ahead log from being cut"),
            Err(error) => tracing::error!(%error, size, "the write-ahead log cannot be cut"),
        }
    }
}

/// Takes what waits.
fn gather(batch: &mut Vec<Work>, waiting: &mut mpsc::Receiver<Work>) {
    while batch.len() < limits::GROUP_COMMIT {
        match waiting.try_recv() {
            Ok(work) => batch.push(work),
            Err(_) => break,
        }
    }
}
