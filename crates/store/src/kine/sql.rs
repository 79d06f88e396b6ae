//! The statements, the same for every database.

use bytes::Bytes;

use super::plan::{Lease, Needs, Plan, View, Write, to_i64};
use super::row::{self, BARE, COLUMNS, Row, WIDTH, gather, revision_of};
use super::session::{Dialect, Fault, Session, Value};
use crate::error::Error;
use crate::limits;
use crate::types::{KeyValue, Range, RangeResponse, WatchBatch};

/// The newest row of each name that meets the condition `{}`.
const NEWEST: &str =
    "JOIN (SELECT MAX(id) AS id FROM kine WHERE {} GROUP BY name) n ON n.id = k.id";

/// Where the table is.
pub struct Last {
    pub id: i64,
    pub revision: u64,
    pub now_ms: i64,
}

/// The table's last row, and the database's clock.
pub async fn last(s: &mut dyn Session, d: &Dialect) -> Result<Last, Fault> {
    let sql = format!(
        "SELECT k.id, k.k0s_position, {} FROM kine k ORDER BY k.id DESC LIMIT 1",
        d.now
    );
    let rows = s.query(&sql, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| Fault::Refused("the table kine is empty".into()))?;
    Ok(Last {
        id: row[0].int(),
        revision: revision_of(row[0].int(), row[1].int()),
        now_ms: row[2].int(),
    })
}

/// The revision history is compacted to.
pub async fn compacted(s: &mut dyn Session) -> Result<u64, Fault> {
    let sql = "SELECT MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key'";
    let rows = s.query(sql, &[]).await?;
    Ok(rows.first().map_or(0, |r| r[0].int()).unsigned_abs())
}

/// How many rows there are after `from` up to `to`.
pub async fn count(s: &mut dyn Session, from: i64, to: i64) -> Result<i64, Fault> {
    let sql = "SELECT COUNT(*) FROM kine WHERE id > ? AND id <= ?";
    let rows = s.query(sql, &[Value::Int(from), Value::Int(to)]).await?;
    Ok(rows.first().map_or(0, |r| r[0].int()))
}

/// The first row after all of a revision.
async fn bound(s: &mut dyn Session, revision: u64) -> Result<i64, Fault> {
    let sql = "SELECT id FROM kine WHERE id > ? AND (k0s_position IS NULL OR k0s_position = 0)
         ORDER BY id LIMIT 1";
    let rows = s.query(sql, &[Value::Int(to_i64(revision))]).await?;
    Ok(rows.first().map_or(i64::MAX, |r| r[0].int()))
}

/// The names of a range as a condition.
fn names(range: &Range, d: &Dialect) -> (String, Vec<Value>) {
    let name = |key: &[u8]| Value::Name((d.encode)(key));
    let (condition, values) = match &range.end[..] {
        [] => ("name = ?", vec![name(&range.key)]),
        [0] => ("name >= ?", vec![name(&range.key)]),
        end => ("name >= ? AND name < ?", vec![name(&range.key), name(end)]),
    };
    (format!("{condition} AND name <> 'compact_rev_key'"), values)
}

/// As many `?` as there are rows in a list, and how many: a power of two, so that few statements are
/// prepared.
fn places(n: usize) -> (String, usize) {
    let n = n.next_power_of_two();
    (vec!["?"; n].join(","), n)
}

/// Fills a list up with its last value.
fn padded(values: impl Iterator<Item = Value>, n: usize) -> Vec<Value> {
    let mut values: Vec<Value> = values.collect();
    let last = values.last().cloned().unwrap_or(Value::Null);
    values.resize(n, last);
    values
}

// === Reads ===

/// The keys of a range, within a transaction of its own kind. The inner error is the caller's.
pub async fn range(
    s: &mut dyn Session,
    d: &Dialect,
    range: &Range,
    last: &Last,
) -> Result<Result<RangeResponse, Error>, Fault> {
    if range.revision > last.revision {
        return Ok(Err(Error::FutureRevision {
            asked: range.revision,
            current: last.revision,
        }));
    }
    let compact_revision = compacted(s).await?;
    if range.revision != 0 && range.revision < compact_revision {
        return Ok(Err(Error::Compacted { compact_revision }));
    }
    let mut answer = RangeResponse {
        revision: last.revision,
        ..RangeResponse::default()
    };
    let (mut condition, mut values) = names(range, d);
    if range.revision != 0 && range.revision != last.revision {
        condition.push_str(" AND id < ?");
        values.push(Value::Int(bound(s, range.revision).await?));
    }
    let newest = NEWEST.replace("{}", &condition);
    if !range.count_only {
        let columns = if range.keys_only { BARE } else { COLUMNS };
        let mut sql =
            format!("SELECT {columns} FROM kine k {newest} WHERE k.deleted = 0 ORDER BY k.name");
        if range.limit != 0 {
            sql.push_str(" LIMIT ?");
            values.push(Value::Int(to_i64(range.limit as u64)));
        }
        let rows = s.query(&sql, &values).await?;
        let rows = rows.iter().filter_map(|r| Row::read(r, d));
        answer.kvs = rows.filter_map(|r| r.kv()).collect();
        answer.count = answer.kvs.len();
        if range.limit == 0 || answer.count < range.limit {
            return Ok(Ok(answer));
        }
        values.pop();
    }
    let sql = format!("SELECT COUNT(*) FROM kine k {newest} WHERE k.deleted = 0");
    let rows = s.query(&sql, &values).await?;
    answer.count = rows.first().map_or(0, |r| r[0].int()).unsigned_abs() as usize;
    answer.more = !range.count_only && answer.count > answer.kvs.len();
    Ok(Ok(answer))
}

/// A row of history and the key before it.
pub type Change = (Row, Option<KeyValue>);

/// Rows of a range (nothing: of all) after one, whole transactions only, at most a page unless one
/// transaction is larger.
pub async fn history(
    s: &mut dyn Session,
    d: &Dialect,
    range: Option<&Range>,
    after: i64,
) -> Result<Vec<Change>, Fault> {
    let (condition, names) = match range {
        Some(range) => {
            let (condition, values) = names(range, d);
            (
                format!(" AND {}", condition.replace("name", "k.name")),
                values,
            )
        }
        None => (String::new(), Vec::new()),
    };
    let sql = format!(
        "SELECT {COLUMNS}, {} FROM kine k LEFT JOIN kine p ON p.id = k.prev_revision AND p.name = k.name
         WHERE k.id > ?{condition} ORDER BY k.id LIMIT ?",
        COLUMNS.replace("k.", "p.")
    );
    let mut limit = limits::SQL_PAGE;
    loop {
        let mut values = vec![Value::Int(after)];
        values.extend(names.iter().cloned());
        values.push(Value::Int(to_i64(limit as u64)));
        let rows = s.query(&sql, &values).await?;
        let full = rows.len() >= limit;
        let read = |r: &Vec<Value>| {
            let before = Row::read(&r[WIDTH..], d).and_then(|r| r.kv());
            Some((Row::read(&r[..WIDTH], d)?, before))
        };
        let mut changes: Vec<Change> = rows.iter().filter_map(read).collect();
        if full && let Some(last) = changes.last().map(|(r, _)| r.revision()) {
            changes.retain(|(r, _)| r.revision() != last);
        }
        if !full || !changes.is_empty() {
            return Ok(changes);
        }
        limit *= 4;
    }
}

/// Changes as batches of their revisions.
pub fn batches(changes: Vec<Change>) -> Vec<WatchBatch> {
    let mut batches = Vec::new();
    for (row, before) in changes {
        gather(&mut batches, &row, before);
    }
    batches
}

/// Keys that end by kine's own time to live.
pub async fn mortal(s: &mut dyn Session, d: &Dialect) -> Result<Vec<Row>, Fault> {
    let sql = format!(
        "SELECT {BARE} FROM kine k WHERE k.lease > 0 AND k.k0s_lease IS NULL AND k.deleted = 0
         AND NOT EXISTS (SELECT 1 FROM kine p WHERE p.name = k.name AND p.id > k.id)"
    );
    let rows = s.query(&sql, &[]).await?;
    Ok(rows.iter().filter_map(|r| Row::read(r, d)).collect())
}

/// Milliseconds until the first lease ends.
pub async fn lease_end(s: &mut dyn Session, d: &Dialect) -> Result<Option<i64>, Fault> {
    let sql = format!("SELECT MIN(ends_ms), {} FROM k0s_lease", d.now);
    let rows = s.query(&sql, &[]).await?;
    Ok(rows.first().and_then(|r| Some(r[0].some()? - r[1].int())))
}

/// Rows that no sequence of transactions leads to.
pub async fn impossible(s: &mut dyn Session) -> Result<i64, Fault> {
    let sql = "SELECT COUNT(*) FROM kine WHERE name <> 'compact_rev_key' AND (prev_revision >= id
         OR (deleted = 0 AND (create_revision > id OR (created = 0 AND create_revision = 0)))
         OR k0s_version < 1 OR k0s_position < 0)";
    let rows = s.query(sql, &[]).await?;
    Ok(rows.first().map_or(0, |r| r[0].int()))
}

// === Writes ===

/// Makes this connection the only one of our kind that writes until its transaction ends. kine is
/// kept out by its unique index on name and previous row.
pub async fn lock(s: &mut dyn Session) -> Result<(), Fault> {
    let sql = "SELECT value FROM k0s_number WHERE name = 'lock' FOR UPDATE";
    s.query(sql, &[]).await.map(drop)
}

/// What a batch needs to know.
pub async fn view(s: &mut dyn Session, d: &Dialect, needs: &Needs) -> Result<View, Fault> {
    let last = last(s, d).await?;
    let mut view = View {
        last: last.id,
        revision: last.revision,
        now_ms: last.now_ms,
        ..View::default()
    };
    for keys in needs.keys.chunks(limits::SQL_LIST) {
        let (list, n) = places(keys.len());
        let values = padded(keys.iter().map(|k| Value::Name((d.encode)(k))), n);
        newest(s, d, &format!("name IN ({list})"), &values, &mut view).await?;
    }
    for range in &needs.ranges {
        let (condition, values) = names(range, d);
        newest(s, d, &condition, &values, &mut view).await?;
    }
    for ids in needs.leases.chunks(limits::SQL_LIST) {
        let (list, n) = places(ids.len());
        let sql = format!("SELECT id, ttl_ms, ends_ms FROM k0s_lease WHERE id IN ({list})");
        let values = padded(ids.iter().map(|id| Value::Int(*id)), n);
        leases(s, &sql, &values, &mut view).await?;
    }
    let mut leased = needs.leased.clone();
    if needs.ended {
        let sql =
            "SELECT id, ttl_ms, ends_ms FROM k0s_lease WHERE ends_ms <= ? ORDER BY ends_ms LIMIT ?";
        let most = Value::Int(to_i64(limits::SQL_LEASES_ENDED as u64));
        let ended = leases(s, sql, &[Value::Int(view.now_ms), most], &mut view).await?;
        leased.extend(ended);
    }
    for id in leased {
        let condition = "name IN (SELECT name FROM kine WHERE k0s_lease = ?)";
        newest(s, d, condition, &[Value::Int(id)], &mut view).await?;
    }
    view.rows.remove(row::COMPACT);
    Ok(view)
}

async fn newest(
    s: &mut dyn Session,
    d: &Dialect,
    condition: &str,
    values: &[Value],
    view: &mut View,
) -> Result<(), Fault> {
    let newest = NEWEST.replace("{}", condition);
    let sql = format!("SELECT {COLUMNS} FROM kine k {newest}");
    for row in s.query(&sql, values).await? {
        if let Some(row) = Row::read(&row, d) {
            view.rows.insert(row.key.clone(), row);
        }
    }
    Ok(())
}

async fn leases(
    s: &mut dyn Session,
    sql: &str,
    values: &[Value],
    view: &mut View,
) -> Result<Vec<i64>, Fault> {
    let rows = s.query(sql, values).await?;
    for row in &rows {
        let lease = Lease {
            ttl_ms: row[1].int(),
            ends_ms: row[2].int(),
        };
        view.leases.insert(row[0].int(), lease);
    }
    Ok(rows.iter().map(|r| r[0].int()).collect())
}

/// Writes a plan.
pub async fn write(s: &mut dyn Session, d: &Dialect, plan: &Plan, word: i64) -> Result<(), Fault> {
    let mut rest = &plan.writes[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(together(rest));
        insert(s, d, now).await?;
        rest = later;
    }
    if let (Some(sql), Some(last)) = (d.wrote, plan.writes.last()) {
        s.execute(sql, &[Value::Int(last.row.id), Value::Int(word)])
            .await?;
    }
    for (id, lease) in &plan.leases {
        let id = Value::Int(*id);
        s.execute(
            "DELETE FROM k0s_lease WHERE id = ?",
            std::slice::from_ref(&id),
        )
        .await?;
        if let Some(lease) = lease {
            let values = [id, Value::Int(lease.ttl_ms), Value::Int(lease.ends_ms)];
            s.execute(
                "INSERT INTO k0s_lease (id, ttl_ms, ends_ms) VALUES (?, ?, ?)",
                &values,
            )
            .await?;
        }
    }
    Ok(())
}

/// How many rows one statement writes: a power of two within the bounds.
fn together(writes: &[Write]) -> usize {
    let mut n = 1;
    let size = |w: &Write| w.row.value.len() + w.old.as_ref().map_or(0, Bytes::len);
    while n * 2 <= writes.len().min(limits::SQL_LIST)
        && writes[..n * 2].iter().map(size).sum::<usize>() <= limits::SQL_BATCH_BYTES
    {
        n *= 2;
    }
    n
}

async fn insert(s: &mut dyn Session, d: &Dialect, writes: &[Write]) -> Result<(), Fault> {
    let row = "(?,?,?,?,?,?,?,?,?,?,?,?)";
    let sql = format!(
        "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value,
         old_value, k0s_version, k0s_position, k0s_lease) VALUES {}",
        vec![row; writes.len()].join(",")
    );
    let mut values = Vec::with_capacity(writes.len() * 12);
    let number = |n: Option<i64>| n.map_or(Value::Null, Value::Int);
    for Write { row, old } in writes {
        values.extend([
            Value::Int(row.id),
            Value::Name((d.encode)(&row.key)),
            Value::Int(row.created.into()),
            Value::Int(row.deleted.into()),
            Value::Int(row.create_revision),
            Value::Int(row.previous),
            Value::Int(row.ttl),
            if row.deleted {
                Value::Null
            } else {
                Value::Blob(row.value.clone())
            },
            old.clone().map_or(Value::Null, Value::Blob),
            number(row.version),
            Value::Int(row.position),
            number(row.lease),
        ]);
    }
    s.execute(&sql, &values).await
}

/// Whether the rows of a plan are there: its commit was not answered.
pub async fn is_written(s: &mut dyn Session, d: &Dialect, plan: &Plan) -> Result<bool, Fault> {
    let ends = [plan.writes.first(), plan.writes.last()];
    for write in ends.into_iter().flatten() {
        let sql = format!("SELECT {COLUMNS} FROM kine k WHERE k.id = ?");
        let rows = s.query(&sql, &[Value::Int(write.row.id)]).await?;
        if rows.first().and_then(|r| Row::read(r, d)).as_ref() != Some(&write.row) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes the place of a row that its writer gave up, as kine does.
pub async fn fill(s: &mut dyn Session, d: &Dialect, id: i64) -> Result<(), Fault> {
    let sql = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value,
         old_value) VALUES (?, ?, 0, 1, 0, 0, 0, NULL, NULL)";
    let name = (d.encode)(format!("gap-{id}").as_bytes());
    match s.execute(sql, &[Value::Int(id), Value::Name(name)]).await {
        // The writer, or another server, was first.
        Err(Fault::Again(_)) => Ok(()),
        done => done,
    }
}

// === Compaction ===

/// Notes that history up to a revision is not read any more.
pub async fn set_compacted(s: &mut dyn Session, revision: u64) -> Result<(), Fault> {
    let sql =
        "UPDATE kine SET prev_revision = ? WHERE name = 'compact_rev_key' AND prev_revision < ?";
    let revision = Value::Int(to_i64(revision));
    s.execute(sql, &[revision.clone(), revision]).await
}

/// The row up to which rows that were replaced are gone.
pub async fn cleaned(s: &mut dyn Session) -> Result<i64, Fault> {
    let sql = "SELECT value FROM k0s_number WHERE name = 'cleaned'";
    let rows = s.query(sql, &[]).await?;
    Ok(rows.first().map_or(0, |r| r[0].int()))
}

/// Looks at a page of rows from one on: takes what each of them replaced, and deletions themselves. Gives
/// the row to go on from, if any.
pub async fn clean(s: &mut dyn Session, from: i64, compacted: u64) -> Result<Option<i64>, Fault> {
    // One statement sees one state of the table: what is written beside this would else be taken for history.
    let sql = "SELECT id, prev_revision, deleted, k0s_position, name FROM kine
         WHERE id >= ? AND id < COALESCE((SELECT b.id FROM kine b
            WHERE b.id > ? AND (b.k0s_position IS NULL OR b.k0s_position = 0) ORDER BY b.id LIMIT 1), ?)
         ORDER BY id LIMIT ?";
    let values = [
        Value::Int(from),
        Value::Int(to_i64(compacted)),
        Value::Int(i64::MAX),
        Value::Int(limits::COMPACT_ROWS),
    ];
    let rows = s.query(sql, &values).await?;
    let mut gone = Vec::new();
    for row in &rows {
        let [id, previous, deleted, position, name] = &row[..] else {
            continue;
        };
        if previous.int() != 0 && name.bytes().is_some_and(|n| n != row::COMPACT) {
            gone.push(previous.int());
        }
        // As in etcd, what happened at the compacted revision itself can still be watched.
        if deleted.int() != 0 && revision_of(id.int(), position.int()) < compacted {
            gone.push(id.int());
        }
    }
    for ids in gone.chunks(limits::SQL_LIST) {
        let (list, n) = places(ids.len());
        let values = padded(ids.iter().map(|id| Value::Int(*id)), n);
        s.execute(&format!("DELETE FROM kine WHERE id IN ({list})"), &values)
            .await?;
    }
    let more = rows.len() as i64 >= limits::COMPACT_ROWS;
    let next = rows.last().filter(|_| more).map(|r| r[0].int() + 1);
    let done = next.unwrap_or(to_i64(compacted));
    let sql = "UPDATE k0s_number SET value = ? WHERE name = 'cleaned' AND value < ?";
    s.execute(sql, &[Value::Int(done), Value::Int(done)])
        .await?;
    Ok(next)
}
