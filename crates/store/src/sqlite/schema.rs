//! The file's layout: one row for every change that compaction has not taken, in order of time, an
//! index that finds a key's changes, leases, three numbers.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::failed;
use crate::error::Error;
use crate::file;
use crate::limits;

/// `id` is a change's revision and its position within it (`row_id`). `previous` is the id of the
/// change it replaced (0 for a new key): what compaction may take once this one is old enough.
/// Rows are appended in the order of ids, so that writes touch few pages; the value stands last, so
/// that reads of the rest need not pass over it.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO number VALUES ('revision', 1), ('compacted', 0), ('cleaned', 0), ('layout', 2);
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    deleted INTEGER NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    value BLOB
);
CREATE INDEX IF NOT EXISTS history_by_key ON history (key, id, deleted);
CREATE INDEX IF NOT EXISTS history_by_lease ON history (lease) WHERE lease <> 0;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL);
";

/// The layout this code reads and writes.
const LAYOUT: i64 = 2;

/// Bits of a row's id that tell its position within its revision.
const POSITION_BITS: u32 = 20;

/// Changes one revision may hold.
pub const POSITIONS: usize = 1 << POSITION_BITS;

/// What the writer keeps in memory.
pub struct State {
    pub revision: u64,
    pub compacted: u64,
    /// Rows up to this revision have been looked at by compaction; behind `compacted` while it runs.
    pub cleaned: u64,
    pub leases: HashMap<i64, Lease>,
}

/// A lease: its whole lifetime and when it ends.
pub struct Lease {
    pub ttl: Duration,
    pub ends: Instant,
}

/// The id of a change: its revision and position. The first one of a revision has position 0, so
/// `row_id(r + 1, 0)` is past all of `r`.
pub fn row_id(revision: u64, position: usize) -> i64 {
    // Revisions count transactions and positions are bounded by POSITIONS: 43 bits are never used up.
    i64::try_from((revision << POSITION_BITS) | position as u64).unwrap_or(i64::MAX)
}

/// The revision of a change.
pub fn revision_of(id: i64) -> u64 {
    id.unsigned_abs() >> POSITION_BITS
}

/// Makes this process the only one that writes the file, as long as the answer is kept. Waits for an
/// owner that is about to end.
pub fn lock(path: &Path) -> Result<File, Error> {
    let refused = |message: String| Error::Backend {
        operation: "lock the file",
        message: format!("{}: {message}", path.display()),
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| refused(e.to_string()))?;
    let deadline = Instant::now() + limits::OPEN_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(refused(e.to_string())),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(refused("another process has it open".into()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Opens the file for writing, creating it with mode 0600. It grows to `quota` bytes at most.
pub fn open(path: &Path, quota: u64) -> Result<Connection, Error> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::Backend {
            operation: "create the file",
            message: format!("{}: {e}", path.display()),
        })?;
    let connection = Connection::open(path).map_err(|e| failed("open", &e))?;
    let setup = |c: &Connection| -> rusqlite::Result<()> {
        c.pragma_update(None, "journal_mode", "WAL")?;
        c.pragma_update(None, "synchronous", "FULL")?;
        c.pragma_update(None, "cache_size", -limits::WRITER_CACHE_KIB)?;
        // The WAL is truncated back to this after a checkpoint.
        c.pragma_update(None, "journal_size_limit", limits::WAL_KEPT_BYTES)?;
        c.pragma_update(None, "wal_autocheckpoint", limits::WAL_CHECKPOINT_PAGES)?;
        stable_plans(c)?;
        c.busy_timeout(Duration::from_secs(10))?;
        c.set_prepared_statement_cache_capacity(64);
        c.execute_batch(TABLES)?;
        let page: i64 = c.query_row("PRAGMA page_size", [], |r| r.get(0))?;
        let pages = i64::try_from(quota).unwrap_or(i64::MAX) / page.max(1);
        // The pragma answers with what it set.
        c.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    };
    setup(&connection).map_err(|e| failed("set up the file", &e))?;
    Ok(connection)
}

/// Plans do not depend on the values bound. Without this a build with STAT4 prepares a statement anew
/// each time a range's bound changes, which is each time.
fn stable_plans(c: &Connection) -> rusqlite::Result<()> {
    c.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Opens the file for reading.
pub fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let c = Connection::open_with_flags(path, flags).map_err(|e| failed("open to read", &e))?;
    let setup = |c: &Connection| -> rusqlite::Result<()> {
        c.pragma_update(None, "cache_size", -limits::READER_CACHE_KIB)?;
        stable_plans(c)?;
        c.busy_timeout(Duration::from_secs(10))
    };
    setup(&c).map_err(|e| failed("open to read", &e))?;
    Ok(c)
}

/// Copies the file as it is at one moment, without what compaction took, into a new one.
pub fn snapshot(from: &Path, to: &Path) -> Result<u64, Error> {
    let empty = file::create(to)?;
    let copy = || -> Result<u64, Error> {
        // SQLite fills a file that is there if it is empty, and so its mode stays.
        let c = open_reader(from)?;
        c.execute("VACUUM INTO ?1", [to.to_string_lossy()])
            .map_err(|e| failed("snapshot", &e))?;
        file::finish(&empty, to)
    };
    copy().inspect_err(|_| file::discard(to))
}

impl State {
    /// When the first lease ends.
    pub fn lease_end(&self) -> Option<Instant> {
        self.leases.values().map(|l| l.ends).min()
    }
}

/// Reads the state at start. A lease begins its whole lifetime anew, as in etcd after an election.
pub fn load(c: &mut Connection) -> Result<State, Error> {
    let number = |name: &str| {
        c.query_row("SELECT value FROM number WHERE name = ?", [name], |r| {
            r.get::<_, i64>(0)
        })
        .map_err(|e| failed("load", &e))
    };
    let layout = number("layout")?;
    if layout != LAYOUT {
        return Err(Error::Backend {
            operation: "load",
            message: format!("the file has layout {layout}, this program reads {LAYOUT}"),
        });
    }
    let now = Instant::now();
    let mut leases = HashMap::new();
    let mut all = c
        .prepare("SELECT id, ttl_ms FROM lease")
        .map_err(|e| failed("load", &e))?;
    let rows = all
        .query_map(params![], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?))
        })
        .map_err(|e| failed("load", &e))?;
    for row in rows {
        let (id, ttl) = row.map_err(|e| failed("load", &e))?;
        let ttl = Duration::from_millis(ttl.unsigned_abs());
        let ends = now + ttl;
        leases.insert(id, Lease { ttl, ends });
    }
    Ok(State {
        revision: number("revision")?.unsigned_abs(),
        compacted: number("compacted")?.unsigned_abs(),
        cleaned: number("cleaned")?.unsigned_abs(),
        leases,
    })
}
