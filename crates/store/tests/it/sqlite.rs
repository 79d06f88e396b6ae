//! The suite on SQLite, and what a file adds: reopening, modes.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use store::sqlite::Sqlite;
use store::{Range, Store};
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
async fn the_file_is_for_its_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let _s = open(&path);
    let mode = std::fs::metadata(&path)
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
