//! Reads: keys of a range at a revision, and history for watches.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::failed;
use super::schema::{revision_of, row_id};
use crate::error::Error;
use crate::limits;
use crate::types::{Event, KeyValue, Range, RangeResponse, WatchBatch};

/// The newest change of each key of `[?1, ?2)` before the row `?3`; the index has all of it, and
/// the bare column is that of the row with the greatest id.
const NEWEST_OF_EACH: &str = "SELECT MAX(id), deleted FROM history INDEXED BY history_by_key
     WHERE key >= ?1 AND key < ?2 AND id < ?3 GROUP BY key";

const BY_ID: &str =
    "SELECT key, create_revision, id, version, lease, value FROM history WHERE id = ?1";

/// The same without the value.
const BARE_BY_ID: &str =
    "SELECT key, create_revision, id, version, lease, NULL FROM history WHERE id = ?1";

/// A key's newest state before the row `?2`, unless that is a deletion.
const NEWEST: &str = "SELECT key, create_revision, id, version, lease, value FROM history
     WHERE id = (SELECT id FROM history INDEXED BY history_by_key
       WHERE key = ?1 AND id < ?2 ORDER BY id DESC LIMIT 1) AND deleted = 0";

/// The bounds of a range as SQLite compares blobs: `\0` means everything, empty means one key.
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

/// The keys of a range as they were at revision `at`; `current` is the store's.
pub fn range(
    c: &mut Connection,
    range: &Range,
    at: u64,
    current: u64,
) -> Result<RangeResponse, Error> {
    let read = |c: &Connection| -> rusqlite::Result<RangeResponse> {
        let mut answer = RangeResponse {
            revision: current,
            ..RangeResponse::default()
        };
        let mut each = c.prepare_cached(NEWEST_OF_EACH)?;
        let mut one = c.prepare_cached(if range.keys_only { BARE_BY_ID } else { BY_ID })?;
        let (low, high) = bounds(range);
        let mut found = each.query(params![low, high, row_id(at + 1, 0)])?;
        while let Some(row) = found.next()? {
            if row.get::<_, bool>(1)? {
                continue;
            }
            answer.count += 1;
            if range.count_only || (range.limit != 0 && answer.kvs.len() >= range.limit) {
                continue;
            }
            let id: i64 = row.get(0)?;
            answer.kvs.push(one.query_row([id], key_value)?);
        }
        answer.more = !range.count_only && answer.count > answer.kvs.len();
        Ok(answer)
    };
    // One read transaction, so that all is of one moment.
    let tx = c.transaction().map_err(|e| failed("read", &e))?;
    let answer = read(&tx).map_err(|e| failed("read", &e))?;
    tx.finish().map_err(|e| failed("read", &e))?;
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
            "SELECT key, create_revision, id, version, lease, value, deleted FROM history
             WHERE id >= ?1 AND id < ?2 ORDER BY id",
        )?;
        let mut before = c.prepare_cached(NEWEST)?;
        let mut batches: Vec<WatchBatch> = Vec::new();
        let (mut seen, mut at) = (0, 0);
        let mut rows = rows.query(params![row_id(from, 0), row_id(until + 1, 0)])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(2)?;
            let revision = revision_of(id);
            if seen >= limits::HISTORY_PAGE && revision != at {
                return Ok((batches, revision));
            }
            seen += 1;
            at = revision;
            // Most rows concern other watches; their values are not read.
            if !range.contains(row.get_ref(0)?.as_blob()?) {
                continue;
            }
            let kv = key_value(row)?;
            let before = one_before(&mut before, &kv.key, id)?;
            let event = if row.get::<_, bool>(6)? {
                Event::Delete {
                    key: kv.key,
                    revision,
                    before,
                }
            } else {
                Event::Put { kv, before }
            };
            match batches.last_mut() {
                Some(last) if last.revision == revision => last.events.push(event),
                _ => batches.push(WatchBatch {
                    revision,
                    events: vec![event],
                }),
            }
        }
        Ok((batches, until + 1))
    };
    read(c).map_err(|e| failed("read history", &e))
}

/// The state of a key now, as the given connection sees it.
pub fn newest(c: &Connection, key: &[u8]) -> rusqlite::Result<Option<(i64, KeyValue)>> {
    let mut statement = c.prepare_cached(NEWEST)?;
    let found = statement.query_row(params![key, i64::MAX], |r| Ok((r.get(2)?, key_value(r)?)));
    found.optional()
}

fn one_before(
    statement: &mut CachedStatement<'_>,
    key: &[u8],
    id: i64,
) -> rusqlite::Result<Option<KeyValue>> {
    statement.query_row(params![key, id], key_value).optional()
}

/// The keys that there are in a range now, as the given connection sees them.
pub fn keys(c: &Connection, range: &Range) -> rusqlite::Result<Vec<Bytes>> {
    let (low, high) = bounds(range);
    let mut rows = c.prepare_cached(
        "SELECT key, MAX(id), deleted FROM history INDEXED BY history_by_key
         WHERE key >= ?1 AND key < ?2 GROUP BY key",
    )?;
    let mut found = rows.query(params![low, high])?;
    let mut keys = Vec::new();
    while let Some(row) = found.next()? {
        if !row.get::<_, bool>(2)? {
            keys.push(row.get::<_, Vec<u8>>(0)?.into());
        }
    }
    Ok(keys)
}

/// Keys attached to a lease now, in order.
pub fn leased(c: &Connection, lease: i64) -> rusqlite::Result<Vec<Bytes>> {
    let mut rows = c.prepare_cached(
        "SELECT key FROM history h WHERE lease = ?1 AND lease <> 0
         AND id = (SELECT MAX(id) FROM history WHERE key = h.key) ORDER BY key",
    )?;
    rows.query_map([lease], |r| Ok(Bytes::from(r.get::<_, Vec<u8>>(0)?)))?
        .collect()
}

/// Looks for damage in the file and for states that no sequence of transactions leads to.
pub fn verify(c: &mut Connection) -> Result<(), Error> {
    let failed = |e: rusqlite::Error| failed("verify", &e);
    let damaged = |message: String| Error::Backend {
        operation: "verify",
        message,
    };
    let told: String = c
        .query_row("PRAGMA integrity_check(1)", [], |r| r.get(0))
        .map_err(failed)?;
    if told != "ok" {
        return Err(damaged(told));
    }
    let tx = c.transaction().map_err(failed)?;
    let revision: i64 = tx
        .query_row(
            "SELECT value FROM number WHERE name = 'revision'",
            [],
            |r| r.get(0),
        )
        .map_err(failed)?;
    let impossible: i64 = tx
        .query_row(
            "SELECT COUNT(*) FROM history WHERE id >= ?1 OR previous >= id OR (deleted = 0 AND (
               version < 1 OR create_revision < 1 OR (create_revision << 20) > id))",
            [row_id(revision.unsigned_abs() + 1, 0)],
            |r| r.get(0),
        )
        .map_err(failed)?;
    match impossible {
        0 => Ok(()),
        n => Err(damaged(format!("{n} impossible rows of history"))),
    }
}

/// Reads the columns of `BY_ID`.
fn key_value(r: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue {
        key: r.get::<_, Vec<u8>>(0)?.into(),
        create_revision: r.get::<_, i64>(1)?.unsigned_abs(),
        mod_revision: revision_of(r.get(2)?),
        version: r.get::<_, i64>(3)?.unsigned_abs(),
        lease: r.get(4)?,
        value: r.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default().into(),
    })
}

/// Revisions fit: they count transactions.
pub fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
