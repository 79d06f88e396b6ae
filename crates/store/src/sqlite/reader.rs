//! Reads: keys of a range at a revision, and history for watches.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::backend;
use crate::error::Error;
use crate::limits;
use crate::types::{Event, KeyValue, Range, RangeResponse, WatchBatch};

/// The end of a range as SQLite compares blobs: `\0` means everything, empty means one key.
fn bounds(range: &Range) -> (Vec<u8>, Vec<u8>) {
    let low = range.key.to_vec();
    let high = match &range.end[..] {
        [] => {
            let mut next = low.clone();
            next.push(0);
            next
        }
        // No key is longer than KEY_BYTES, so this is past all of them.
        [0] => vec![0xff; limits::KEY_BYTES + 1],
        end => end.to_vec(),
    };
    (low, high)
}

/// The keys of a range as they were at its revision (`current` for 0).
pub fn range(c: &mut Connection, range: &Range, current: u64) -> Result<RangeResponse, Error> {
    let at = if range.revision == 0 {
        current
    } else {
        range.revision
    };
    let (low, high) = bounds(range);
    let read = |c: &Connection| -> rusqlite::Result<RangeResponse> {
        let mut answer = RangeResponse {
            revision: current,
            ..RangeResponse::default()
        };
        if range.count_only || range.limit != 0 {
            let mut count = c.prepare_cached(
                "SELECT COUNT(*) FROM history h WHERE key >= ?1 AND key < ?2 AND revision = (
                   SELECT MAX(revision) FROM history WHERE key = h.key AND revision <= ?3)
                 AND deleted = 0",
            )?;
            answer.count =
                count.query_row(params![low, high, to_i64(at)], |r| r.get::<_, i64>(0))? as usize;
        }
        if range.count_only {
            return Ok(answer);
        }
        let mut rows = c.prepare_cached(
            "SELECT key, value, create_revision, revision, version, lease FROM history h
             WHERE key >= ?1 AND key < ?2 AND revision = (
               SELECT MAX(revision) FROM history WHERE key = h.key AND revision <= ?3)
             AND deleted = 0 ORDER BY key LIMIT ?4",
        )?;
        let limit = if range.limit == 0 {
            -1
        } else {
            range.limit as i64
        };
        let found = rows.query_map(params![low, high, to_i64(at), limit], key_value)?;
        for kv in found {
            let mut kv = kv?;
            if range.keys_only {
                kv.value = Bytes::new();
            }
            answer.kvs.push(kv);
        }
        if range.limit == 0 {
            answer.count = answer.kvs.len();
        }
        answer.more = answer.count > answer.kvs.len();
        Ok(answer)
    };
    // One read transaction, so that count and keys are of one moment.
    let tx = c.transaction().map_err(|e| backend("read", e))?;
    let answer = read(&tx).map_err(|e| backend("read", e))?;
    tx.finish().map_err(|e| backend("read", e))?;
    Ok(answer)
}

/// Events of a range from revision `from` to `until`, at most a page of them, whole revisions only;
/// and the revision to go on from.
pub fn history(
    c: &mut Connection,
    range: &Range,
    from: u64,
    until: u64,
) -> Result<(Vec<WatchBatch>, u64), Error> {
    let read = |c: &Connection| -> rusqlite::Result<(Vec<WatchBatch>, u64)> {
        let mut rows = c.prepare_cached(
            "SELECT key, value, create_revision, revision, version, lease, deleted FROM history
             WHERE revision >= ?1 AND revision <= ?2 ORDER BY revision, sub",
        )?;
        let mut before = previous_statement(c)?;
        let mut batches: Vec<WatchBatch> = Vec::new();
        let mut seen = 0;
        let mut rows = rows.query(params![to_i64(from), to_i64(until)])?;
        while let Some(row) = rows.next()? {
            let kv = key_value(row)?;
            let revision = kv.mod_revision;
            let same = batches.last().is_some_and(|b| b.revision == revision);
            if seen >= limits::HISTORY_PAGE && !same {
                return Ok((batches, revision));
            }
            seen += 1;
            if !range.contains(&kv.key) {
                continue;
            }
            let previous = previous(&mut before, &kv.key, revision)?;
            let event = if row.get::<_, bool>(6)? {
                Event::Delete {
                    key: kv.key,
                    revision,
                    before: previous,
                }
            } else {
                Event::Put {
                    kv,
                    before: previous,
                }
            };
            match batches.last_mut() {
                Some(last) if same => last.events.push(event),
                _ => batches.push(WatchBatch {
                    revision,
                    events: vec![event],
                }),
            }
        }
        Ok((batches, until + 1))
    };
    read(c).map_err(|e| backend("read history", e))
}

/// The state of a key now, as the given connection sees it.
pub fn newest(c: &Connection, key: &[u8]) -> rusqlite::Result<Option<KeyValue>> {
    let mut statement = c.prepare_cached(
        "SELECT key, value, create_revision, revision, version, lease, deleted FROM history
         WHERE key = ?1 ORDER BY revision DESC LIMIT 1",
    )?;
    let found = statement
        .query_row(params![key], |r| Ok((key_value(r)?, r.get::<_, bool>(6)?)))
        .optional()?;
    Ok(found.and_then(|(kv, deleted)| (!deleted).then_some(kv)))
}

/// The keys of a range now, as the given connection sees them.
pub fn newest_range(c: &Connection, range: &Range) -> rusqlite::Result<Vec<KeyValue>> {
    let (low, high) = bounds(range);
    let mut rows = c.prepare_cached(
        "SELECT key, value, create_revision, revision, version, lease FROM history h
         WHERE key >= ?1 AND key < ?2
         AND revision = (SELECT MAX(revision) FROM history WHERE key = h.key)
         AND deleted = 0 ORDER BY key",
    )?;
    rows.query_map(params![low, high], key_value)?.collect()
}

/// Keys attached to a lease now.
pub fn leased(c: &Connection, lease: i64) -> rusqlite::Result<Vec<Bytes>> {
    let mut rows = c.prepare_cached(
        "SELECT key FROM history h WHERE lease = ?1 AND lease <> 0
         AND revision = (SELECT MAX(revision) FROM history WHERE key = h.key)
         AND deleted = 0 ORDER BY key",
    )?;
    rows.query_map([lease], |r| Ok(Bytes::from(r.get::<_, Vec<u8>>(0)?)))?
        .collect()
}

/// Looks for damage in the file and for states that no sequence of transactions leads to.
pub fn verify(c: &mut Connection, current: u64) -> Result<(), Error> {
    let failed = |e: rusqlite::Error| backend("verify", e);
    let told: String = c
        .query_row("PRAGMA integrity_check(1)", [], |r| r.get(0))
        .map_err(failed)?;
    if told != "ok" {
        return Err(backend("verify", told));
    }
    let impossible: i64 = c
        .query_row(
            "SELECT COUNT(*) FROM history WHERE revision > ?1 AND revision > (
               SELECT value FROM number WHERE name = 'revision')
             OR (deleted = 0 AND (create_revision > revision OR create_revision < 1 OR version < 1))",
            [to_i64(current)],
            |r| r.get(0),
        )
        .map_err(failed)?;
    match impossible {
        0 => Ok(()),
        n => Err(backend("verify", format!("{n} impossible rows of history"))),
    }
}

fn previous_statement(c: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    c.prepare_cached(
        "SELECT key, value, create_revision, revision, version, lease, deleted FROM history
         WHERE key = ?1 AND revision < ?2 ORDER BY revision DESC LIMIT 1",
    )
}

fn previous(
    statement: &mut CachedStatement<'_>,
    key: &[u8],
    revision: u64,
) -> rusqlite::Result<Option<KeyValue>> {
    let found = statement
        .query_row(params![key, to_i64(revision)], |r| {
            Ok((key_value(r)?, r.get::<_, bool>(6)?))
        })
        .optional()?;
    Ok(found.and_then(|(kv, deleted)| (!deleted).then_some(kv)))
}

fn key_value(r: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: r.get::<_, Vec<u8>>(0)?.into(),
        value: r.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default().into(),
        create_revision: r.get::<_, i64>(2)?.unsigned_abs(),
        mod_revision: r.get::<_, i64>(3)?.unsigned_abs(),
        version: r.get::<_, i64>(4)?.unsigned_abs(),
        lease: r.get(5)?,
    })
}

/// Revisions fit: they count transactions.
pub fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
