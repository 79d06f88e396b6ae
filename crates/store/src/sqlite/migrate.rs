//! The file of a k0s that ran kine: read once into a file of this layout, and kept beside it. Upstream: kine
//! pkg/drivers/sqlite.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::schema::{self, row_id};
use super::{backend, beside, failed};
use crate::error::Error;

/// What stays of kine's file.
const KEPT: &str = "-kine";
/// The new file while it is written.
const NEW: &str = "-new";

/// The newest state of each key, oldest change first.
const NEWEST: &str =
    "SELECT k.id, k.name, k.created, k.create_revision, k.lease, k.value FROM kine k
     JOIN (SELECT MAX(id) AS id FROM kine GROUP BY name) n ON n.id = k.id
     WHERE k.deleted = 0 AND k.name <> 'compact_rev_key' ORDER BY k.id";

/// Where the file at `path` is kine's, puts one of this layout in its place. Until that is there in whole, nothing has
/// happened: a process killed midway begins anew.
pub fn of_kine(path: &Path, quota: u64) -> Result<(), Error> {
    if !std::fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let told = |e: rusqlite::Error| failed("read kine's file", &e);
    let mut old = Connection::open_with_flags(path, flags).map_err(told)?;
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    let there = |name: &str| old.query_row(table, [name], |r| r.get::<_, i64>(0));
    if there("kine").map_err(told)? == 0 || there("history").map_err(told)? != 0 {
        return Ok(());
    }
    let new = beside(path, NEW);
    for leftover in ["", "-wal", "-shm", "-journal"] {
        let leftover = beside(&new, leftover);
        if leftover.exists() {
            std::fs::remove_file(&leftover).map_err(|e| backend("remove a leftover", e))?;
        }
    }
    let keys = copy(&mut old, &new, quota)?;
    // Both become one file each, without a log beside it.
    single(&old).map_err(told)?;
    old.close().map_err(|(_, e)| told(e))?;
    put_in_place(path, &new).map_err(|e| backend("put the new file in place", e))?;
    tracing::info!(keys, kept = %beside(path, KEPT).display(), "kine's file was read into the store's own");
    Ok(())
}

/// Writes the new file; gives how many keys it has.
fn copy(old: &mut Connection, new: &Path, quota: u64) -> Result<usize, Error> {
    let told = |e: rusqlite::Error| failed("read kine's file into a new one", &e);
    // Whoever else has it open cannot write meanwhile.
    let from = old
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .map_err(told)?;
    let mut made = schema::open(new, quota)?;
    let written = |made: &mut Connection| -> rusqlite::Result<usize> {
        let to = made.transaction()?;
        let revision: i64 =
            from.query_row("SELECT COALESCE(MAX(id), 1) FROM kine", [], |r| r.get(0))?;
        let mut keys = 0;
        {
            let mut rows = from.prepare(NEWEST)?;
            let mut history =
                to.prepare("INSERT INTO history VALUES (?1, ?2, 0, ?3, ?4, ?5, 0, ?6)")?;
            let mut lease = to.prepare("INSERT INTO lease VALUES (?1, ?2)")?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let created = row.get::<_, Option<i64>>(2)?.unwrap_or(0) != 0;
                let create: i64 = if created { id } else { row.get(3)? };
                // kine counts no versions, and its lease is the seconds a key lives.
                let version = if created { 1 } else { 2 };
                let seconds = row.get::<_, Option<i64>>(4)?.unwrap_or(0);
                let leased = if seconds > 0 { id } else { 0 };
                if leased != 0 {
                    lease.execute([leased, seconds.saturating_mul(1_000)])?;
                }
                let value = row.get_ref(5)?.as_bytes_or_null()?.unwrap_or_default();
                let at = row_id(id.unsigned_abs(), 0);
                history.execute(params![
                    at,
                    row.get_ref(1)?.as_bytes()?,
                    create,
                    version,
                    leased,
                    value
                ])?;
                keys += 1;
            }
        }
        to.execute(
            "UPDATE number SET value = ?1 WHERE name IN ('revision', 'compacted', 'cleaned')",
            [revision],
        )?;
        to.commit()?;
        single(made)?;
        Ok(keys)
    };
    let keys = written(&mut made).map_err(told)?;
    made.close().map_err(|(_, e)| told(e))?;
    from.rollback().map_err(told)?;
    Ok(keys)
}

/// Moves the write-ahead log into the file.
fn single(c: &Connection) -> rusqlite::Result<()> {
    c.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
}

/// Keeps the old file under another name, then puts the new one where it was.
fn put_in_place(path: &Path, new: &Path) -> std::io::Result<()> {
    std::fs::File::open(new)?.sync_all()?;
    let kept = beside(path, KEPT);
    if kept.exists() {
        std::fs::remove_file(&kept)?;
    }
    std::fs::hard_link(path, &kept)?;
    std::fs::rename(new, path)?;
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
