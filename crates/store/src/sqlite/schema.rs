//! The file's layout: every key at every revision that compaction has not taken, leases, two numbers.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, params};

use super::backend;
use crate::error::Error;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS history (
    key BLOB NOT NULL,
    revision INTEGER NOT NULL,
    sub INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB,
    PRIMARY KEY (key, revision)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS history_by_revision ON history (revision, sub);
CREATE INDEX IF NOT EXISTS history_by_lease ON history (lease) WHERE lease <> 0;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO number VALUES ('revision', 1), ('compacted', 0), ('layout', 1);
";

/// The layout this code reads and writes.
const LAYOUT: i64 = 1;

/// What the writer keeps in memory.
pub struct State {
    pub revision: u64,
    pub compacted: u64,
    pub leases: HashMap<i64, Lease>,
}

/// A lease: its whole lifetime and when it ends.
pub struct Lease {
    pub ttl: Duration,
    pub ends: Instant,
}

/// Opens the file for writing, creating it with mode 0600.
pub fn open(path: &Path) -> Result<Connection, Error> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| backend("create the file", e))?;
    let connection = Connection::open(path).map_err(|e| backend("open", e))?;
    let setup = |c: &Connection| -> rusqlite::Result<()> {
        c.pragma_update(None, "journal_mode", "WAL")?;
        c.pragma_update(None, "synchronous", "FULL")?;
        c.pragma_update(None, "cache_size", -8192)?;
        // The WAL is truncated back to this after a checkpoint.
        c.pragma_update(None, "journal_size_limit", 16 << 20)?;
        c.pragma_update(None, "wal_autocheckpoint", 2000)?;
        c.busy_timeout(Duration::from_secs(10))?;
        c.execute_batch(TABLES)
    };
    setup(&connection).map_err(|e| backend("set up the file", e))?;
    Ok(connection)
}

/// Opens the file for reading.
pub fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let c = Connection::open_with_flags(path, flags).map_err(|e| backend("open to read", e))?;
    let setup = |c: &Connection| -> rusqlite::Result<()> {
        c.pragma_update(None, "cache_size", -1024)?;
        c.busy_timeout(Duration::from_secs(10))
    };
    setup(&c).map_err(|e| backend("open to read", e))?;
    Ok(c)
}

/// Reads the state at start. A lease begins its whole lifetime anew, as in etcd after an election.
pub fn load(c: &mut Connection) -> Result<State, Error> {
    let number = |name: &str| {
        c.query_row("SELECT value FROM number WHERE name = ?", [name], |r| {
            r.get::<_, i64>(0)
        })
        .map_err(|e| backend("load", e))
    };
    let layout = number("layout")?;
    if layout != LAYOUT {
        return Err(backend(
            "load",
            format!("the file has layout {layout}, this is {LAYOUT}"),
        ));
    }
    let now = Instant::now();
    let mut leases = HashMap::new();
    let mut all = c
        .prepare("SELECT id, ttl_ms FROM lease")
        .map_err(|e| backend("load", e))?;
    let rows = all
        .query_map(params![], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?))
        })
        .map_err(|e| backend("load", e))?;
    for row in rows {
        let (id, ttl) = row.map_err(|e| backend("load", e))?;
        let ttl = Duration::from_millis(ttl.unsigned_abs());
        leases.insert(
            id,
            Lease {
                ttl,
                ends: now + ttl,
            },
        );
    }
    Ok(State {
        revision: number("revision")?.unsigned_abs(),
        compacted: number("compacted")?.unsigned_abs(),
        leases,
    })
}
