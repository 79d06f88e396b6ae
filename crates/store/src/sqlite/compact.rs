//! Compaction: history up to a revision is walked once, oldest first, a few rows between two
//! commits of the writer, so that writes go on; where it stands is kept in the file.

use rusqlite::{Connection, params};

use super::reader::to_i64;
use super::schema::{State, revision_of, row_id};
use super::{failed, is_fatal};
use crate::error::Error;
use crate::hub::Hub;
use crate::limits;
use crate::work::Reply;

/// The walk that is under way, and who waits for it.
pub struct Cleaning {
    /// The next row to look at; nothing when no walk is under way.
    next: Option<i64>,
    waiting: Vec<Reply<()>>,
}

impl Cleaning {
    /// The walk that an earlier process did not finish, if any.
    pub fn resume(state: &State) -> Self {
        Self {
            next: (state.cleaned < state.compacted).then(|| row_id(state.cleaned, 0)),
            waiting: Vec::new(),
        }
    }

    /// Whether there is work.
    pub fn is_running(&self) -> bool {
        self.next.is_some()
    }

    /// Begins a compaction: from now on nothing before `revision` can be read.
    pub fn begin(
        &mut self,
        c: &mut Connection,
        state: &mut State,
        hub: &Hub,
        revision: u64,
        reply: Reply<()>,
    ) {
        let refused = if revision > state.revision {
            Some(Error::FutureRevision {
                asked: revision,
                current: state.revision,
            })
        } else if revision <= state.compacted {
            Some(Error::Compacted {
                compact_revision: state.compacted,
            })
        } else {
            let sql = "UPDATE number SET value = ?1 WHERE name = 'compacted'";
            let set = c.execute(sql, [to_i64(revision)]);
            set.err().map(|e| failed("compact", &e))
        };
        if let Some(e) = refused {
            // The caller may have given up waiting.
            let _ = reply.send(Err(e));
            return;
        }
        state.compacted = revision;
        hub.set_compacted(revision);
        // A walk under way goes on further; a new one begins where the last one ended: deletions at
        // its very end were kept.
        self.next.get_or_insert(row_id(state.cleaned, 0));
        self.waiting.push(reply);
    }

    /// Does one step of the walk. An error is a state in which going on could lose writes.
    pub fn step(&mut self, c: &mut Connection, state: &mut State) -> Result<(), String> {
        let Some(next) = self.next else {
            return Ok(());
        };
        match walk(c, next, state.compacted) {
            Ok((Some(next), cleaned)) => {
                self.next = Some(next);
                state.cleaned = cleaned;
            }
            Ok((None, cleaned)) => {
                self.next = None;
                state.cleaned = cleaned;
                for reply in self.waiting.drain(..) {
                    let _ = reply.send(Ok(()));
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "compaction failed, the next one goes on");
                self.next = None;
                for reply in self.waiting.drain(..) {
                    let _ = reply.send(Err(failed("compact", &e)));
                }
                if is_fatal(&e) {
                    return Err(format!("compact: {e}"));
                }
            }
        }
        Ok(())
    }
}

/// Looks at some rows from `next` on: takes the row each of them replaced, and deletions themselves.
/// Gives the row to go on with, if any, and the revision up to which all is done.
fn walk(c: &mut Connection, next: i64, compacted: u64) -> rusqlite::Result<(Option<i64>, u64)> {
    let tx = c.transaction()?;
    let rows: Vec<(i64, i64, bool)> = tx
        .prepare_cached(
            "SELECT id, previous, deleted FROM history WHERE id >= ?1 AND id < ?2
             ORDER BY id LIMIT ?3",
        )?
        .query_map(
            params![next, row_id(compacted + 1, 0), limits::COMPACT_ROWS],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    {
        let mut take = tx.prepare_cached("DELETE FROM history WHERE id = ?1")?;
        for (id, previous, deleted) in &rows {
            if *previous != 0 {
                take.execute([previous])?;
            }
            // As in etcd, what happened at the compacted revision itself can still be watched.
            if *deleted && revision_of(*id) < compacted {
                take.execute([id])?;
            }
        }
    }
    let more = (rows.len() as i64 == limits::COMPACT_ROWS)
        .then(|| rows.last().map(|(id, ..)| id + 1))
        .flatten();
    // Rows of a revision may be split between two steps: it is done only with the next one.
    let cleaned = more.map_or(compacted, |id| revision_of(id).saturating_sub(1));
    let sql = "UPDATE number SET value = ?1 WHERE name = 'cleaned'";
    tx.prepare_cached(sql)?.execute([to_i64(cleaned)])?;
    tx.commit()?;
    Ok((more, cleaned))
}
