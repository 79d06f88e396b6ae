//! The suite on SQLite, and what a file adds: reopening, modes, owners, a full disk, damage.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use store::sqlite::Sqlite;
use store::{Error, Range, Store, WriteError};
use tokio::sync::oneshot;

pub fn open(path: &std::path::Path) -> Store {
    let (fatal, _) = oneshot::channel();
    Store::new(Sqlite::open(path, fatal).expect("open"))
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let dir = tempfile::tempdir().expect("a directory");
    let n = AtomicU32::new(0);
    store::conformance::run(|| {
        let path = dir
            .path()
            .join(format!("{}.db", n.fetch_add(1, Ordering::Relaxed)));
        async move { open(&path) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let at = {
        let s = open(&path);
        s.create(Bytes::from("a"), Bytes::from("1"), 0)
            .await
            .expect("create")
    };
    let s = open(&path);
    assert_eq!(s.revision().await.expect("revision"), at);
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!((kv.mod_revision, &kv.value[..]), (at, &b"1"[..]));
    let next = s
        .create(Bytes::from("b"), Bytes::from("2"), 0)
        .await
        .expect("create");
    assert_eq!(next, at + 1);
    assert_eq!(s.range(Range::prefix("a")).await.expect("range").count, 1);
}

#[tokio::test]
async fn the_files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let s = open(&dir.path().join("state.db"));
    s.create(b("a"), b("1"), 0).await.expect("create");
    let mut seen = 0;
    for file in std::fs::read_dir(dir.path()).expect("list") {
        let file = file.expect("entry");
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
        seen += 1;
    }
    assert!(seen >= 3, "the file, its log and its lock: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_one_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let _s = open(&path);
    let (fatal, _) = oneshot::channel();
    let second = tokio::task::spawn_blocking(move || Sqlite::open(&path, fatal).err());
    match second.await.expect("task") {
        Some(Error::Backend { operation, .. }) => assert_eq!(operation, "lock the file"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_refuses_writes_until_compaction_makes_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let (fatal, mut broken) = oneshot::channel();
    let file = Sqlite::open_with_quota(&dir.path().join("state.db"), 2 << 20, fatal);
    let s = Store::new(file.expect("open"));
    let value = Bytes::from(vec![b'v'; 32 << 10]);
    let mut at = s.create(b("a"), value.clone(), 0).await.expect("create");
    let refused = loop {
        match s.update(b("a"), value.clone(), at, 0).await {
            Ok(next) => at = next,
            Err(e) => break e,
        }
    };
    assert!(
        matches!(refused, WriteError::Store(Error::NoSpace)),
        "{refused}"
    );
    // Everybody in a batch is told, and nothing of it took effect.
    let tries = (0..16).map(|i| s.create(b(&format!("k{i}")), value.clone(), 0));
    for done in futures::future::join_all(tries).await {
        assert!(
            matches!(done, Err(WriteError::Store(Error::NoSpace))),
            "{done:?}"
        );
    }
    assert_eq!(s.revision().await.expect("revision"), at);
    assert_eq!(
        s.get("a").await.expect("get").expect("there").mod_revision,
        at
    );
    s.compact(at).await.expect("compact");
    let next = s.update(b("a"), value, at, 0).await.expect("update");
    assert_eq!(next, at + 1);
    s.verify().await.expect("verify");
    assert!(broken.try_recv().is_err(), "a full disk ends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_fatal() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    {
        let s = open(&path);
        s.create(b("a"), b("1"), 0).await.expect("create");
    }
    // Opened a second time, so that the first owner has let go of the file.
    drop(open(&path));
    {
        let c = rusqlite::Connection::open(&path).expect("open");
        c.busy_timeout(std::time::Duration::from_secs(10))
            .expect("timeout");
        c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("checkpoint");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'history_by_key'";
        let page: u32 = c.query_row(sql, [], |r| r.get(0)).expect("page");
        drop(c);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("open");
        file.write_all_at(&[0xaa; 4096], u64::from(page - 1) * 4096)
            .expect("write");
    }
    let (fatal, broken) = oneshot::channel();
    let s = Store::new(Sqlite::open(&path, fatal).expect("open"));
    assert!(s.verify().await.is_err());
    let refused = s.create(b("b"), b("1"), 0).await;
    assert!(
        matches!(refused, Err(WriteError::Store(Error::Backend { .. }))),
        "{refused:?}"
    );
    broken.await.expect("the owner is told");
    let late = s.create(b("c"), b("1"), 0).await;
    assert!(
        matches!(late, Err(WriteError::Store(Error::Closed))),
        "{late:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_cut_off_and_can_resume() {
    let dir = tempfile::tempdir().expect("a directory");
    let s = open(&dir.path().join("state.db"));
    let first = s.create(b("w"), b("1"), 0).await.expect("create");
    let mut watch = s.watch(Range::prefix(""), first).await.expect("watch");
    let writes = (0..store::limits::WATCH_BATCHES + 50).map(|i| {
        let s = s.clone();
        async move {
            s.create(b(&format!("k{i}")), b("1"), 0)
                .await
                .expect("create")
        }
    });
    let done: Vec<u64> = futures::stream::iter(writes)
        .buffer_unordered(256)
        .collect()
        .await;
    let last = done.into_iter().max().expect("some");
    let mut at = first - 1;
    let cut = loop {
        match watch.next().await.expect("not ended") {
            Ok(batch) => {
                assert_eq!(batch.revision, at + 1);
                at = batch.revision;
            }
            Err(e) => break e,
        }
    };
    assert!(
        matches!(cut, Error::Lagged { revision } if revision == at),
        "{cut} at {at}"
    );
    assert!(watch.next().await.is_none());
    let mut watch = s.watch(Range::prefix(""), at + 1).await.expect("watch");
    while at < last {
        let batch = watch.next().await.expect("more").expect("batch");
        assert_eq!(batch.revision, at + 1);
        at = batch.revision;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_history_is_forgotten_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let s = open(&dir.path().join("state.db"));
    let task = tokio::spawn(
        s.clone()
            .compact_forever(std::time::Duration::from_millis(50)),
    );
    let first = s.create(b("a"), b("1"), 0).await.expect("create");
    s.update(b("a"), b("2"), first, 0).await.expect("update");
    let past = Range {
        revision: first,
        ..Range::one("a")
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match s.range(past.clone()).await {
            Err(Error::Compacted { .. }) => break,
            Ok(_) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
        assert!(
            std::time::Instant::now() < deadline,
            "not compacted in time"
        );
    }
    assert_eq!(s.get("a").await.expect("get").expect("there").value, b("2"));
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_without_pause_do_not_let_the_log_grow() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let s = open(&path);
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    s.create(b("a"), value.clone(), 0).await.expect("create");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers = (0..4).map(|_| {
        let (s, stop) = (s.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                s.range(Range::prefix("")).await.expect("range");
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for i in 0..200 {
        s.create(b(&format!("k{i}")), value.clone(), 0)
            .await
            .expect("create");
    }
    stop.store(true, Ordering::Relaxed);
    for r in readers {
        r.await.expect("reader");
    }
    let log = std::fs::metadata(dir.path().join("state.db-wal"))
        .expect("metadata")
        .len();
    assert!(log <= store::limits::WAL_BYTES + (8 << 20), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_load_is_a_store_of_one_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let s = open(&dir.path().join("state.db"));
    for i in 0..50 {
        s.create(b(&format!("k{i}")), b("1"), 0)
            .await
            .expect("create");
    }
    let before = s.revision().await.expect("revision");
    let writer = tokio::spawn({
        let s = s.clone();
        async move {
            for i in 0.. {
                if s.create(b(&format!("n{i}")), b("1"), 0).await.is_err() || i > 5_000 {
                    return;
                }
            }
        }
    });
    let copy = dir.path().join("copy.db");
    let size = s.snapshot(&copy).await.expect("snapshot");
    let metadata = std::fs::metadata(&copy).expect("metadata");
    assert_eq!(
        (metadata.len(), metadata.permissions().mode() & 0o777),
        (size, 0o600)
    );
    let restored = open(&copy);
    let at = restored.revision().await.expect("revision");
    assert!(at >= before);
    let hash = restored.hash(at).await.expect("hash");
    assert_eq!(hash, s.hash(at).await.expect("hash"));
    restored.verify().await.expect("verify");
    assert!(s.snapshot(&copy).await.is_err(), "nothing is overwritten");
    assert_eq!(restored.hash(at).await.expect("hash"), hash);
    writer.abort();
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// kine's file, from its source: a key that was changed, one that is gone, one that lives for a while.
fn kines_file(path: &std::path::Path) {
    let c = rusqlite::Connection::open(path).expect("open");
    c.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    c.execute_batch(
        "CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created INTEGER, deleted INTEGER,
           create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
         INSERT INTO kine VALUES (1, 'compact_rev_key', 1, 0, 0, 0, 0, x'', NULL),
           (2, '/registry/health', 1, 0, 0, 0, 0, x'7b7d', NULL), (3, '/registry/a', 1, 0, 0, 0, 0, x'31', NULL),
           (4, '/registry/b', 1, 0, 0, 0, 0, x'31', NULL), (6, '/registry/a', 0, 0, 3, 3, 0, x'32', x'31'),
           (7, '/registry/b', 0, 1, 0, 4, 0, NULL, x'31'), (8, '/registry/mortal', 1, 0, 0, 0, 1, x'31', NULL),
           (9, 'gap-9', 0, 1, 0, 0, 0, NULL, NULL)",
    )
    .expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_kine_is_read_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    kines_file(&path);
    // What a process that was killed while it read the file leaves.
    std::fs::write(dir.path().join("state.db-new"), b"half").expect("write");
    let open = || Store::new(Sqlite::open(&path, oneshot::channel().0).expect("open"));
    let s = open();
    assert_eq!(s.revision().await.expect("revision"), 9);
    let a = s.get("/registry/a").await.expect("get").expect("there");
    assert_eq!(
        (&a.value[..], a.create_revision, a.mod_revision),
        (&b"2"[..], 3, 6)
    );
    assert!(s.get("/registry/b").await.expect("get").is_none());
    let mut watch = s
        .watch(Range::one("/registry/mortal"), 10)
        .await
        .expect("watch");
    let gone = tokio::time::timeout(std::time::Duration::from_secs(20), watch.next()).await;
    let gone = gone.expect("in time").expect("more").expect("batch");
    assert!(matches!(&gone.events[..], [store::Event::Delete { .. }]));
    let a = s
        .update("/registry/a".into(), "3".into(), 6, 0)
        .await
        .expect("update");
    assert!(a > 9);
    s.verify().await.expect("verify");
    drop((s, watch));

    let kept = rusqlite::Connection::open(dir.path().join("state.db-kine")).expect("open");
    let rows: i64 = kept
        .query_row("SELECT COUNT(*) FROM kine", [], |r| r.get(0))
        .expect("rows");
    assert_eq!(rows, 8);
    // The next start has nothing to read again.
    let s = open();
    assert_eq!(
        s.get("/registry/a")
            .await
            .expect("get")
            .expect("there")
            .value,
        "3"
    );
}

/// A small file system of its own; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|m| m.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: no file system can be mounted");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let lazily = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
        assert!(lazily.is_ok_and(|s| s.success()), "umount");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_acknowledged() {
    let Some(disk) = Disk::mount() else { return };
    let path = disk.0.path().join("state.db");
    let (fatal, mut broken) = oneshot::channel();
    let s = Store::new(Sqlite::open(&path, fatal).expect("open"));
    let others = disk.0.path().join("others");
    std::fs::write(&others, vec![0; 1 << 20]).expect("write");
    let mut acknowledged = std::collections::BTreeMap::new();
    let mut refused = 0;
    // Several at once, so that commits are shared by what fits and what does not.
    for round in 0..100 {
        let puts = (0..4).map(|n| {
            let (s, key) = (s.clone(), format!("k{round:03}-{n}"));
            let value = Bytes::from(vec![b'x'; 5_000 * (n + 1)]);
            async move { (key.clone(), s.create(key.into(), value, 0).await) }
        });
        for (key, done) in futures::future::join_all(puts).await {
            match done {
                Ok(at) => drop(acknowledged.insert(key, at)),
                Err(WriteError::Store(Error::NoSpace)) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty(), "{refused}");
    let same = async |s: &Store| {
        let all = s.range(Range::prefix("k")).await.expect("range");
        let all = all.kvs.iter().map(|kv| {
            (
                String::from_utf8_lossy(&kv.key).into_owned(),
                kv.mod_revision,
            )
        });
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(same(&s).await, acknowledged);
    std::fs::remove_file(&others).expect("remove");
    let at = s
        .create(b("k"), b("there is room again"), 0)
        .await
        .expect("create");
    acknowledged.insert("k".into(), at);
    s.verify().await.expect("verify");
    assert!(broken.try_recv().is_err(), "a full disk ends nothing");
    drop(s);
    let s = open(&path);
    assert_eq!(same(&s).await, acknowledged);
}
