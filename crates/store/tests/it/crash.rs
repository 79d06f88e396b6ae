//! SIGKILL at random moments while writers run: everything acknowledged is there, revisions never
//! go back, a watch from any remembered revision has neither gap nor duplicate.
//! The child is this test binary itself, started on the ignored-by-name helper test below.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::{Event, Range};

const ROUNDS: usize = 50;
const WRITERS: usize = 8;
const CHILD: &str = "STORE_CRASH_CHILD";

/// In the child: writes until it is killed, one line `writer value revision` for each acknowledged write.
#[tokio::test(flavor = "multi_thread")]
async fn crash_child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let s = super::sqlite::open(std::path::Path::new(&path));
    let start = s.revision().await.expect("revision");
    let mut tasks = Vec::new();
    // The parent watches from the revision after this one. Being killed in it must do no harm.
    let compacted = s.clone();
    tasks.push(tokio::spawn(async move {
        if start > 1 {
            match compacted.compact(start).await {
                Ok(()) | Err(store::Error::Compacted { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }));
    for w in 0..WRITERS {
        let s = s.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0u64.. {
                let key = Bytes::from(format!("k/{w}"));
                let value = Bytes::from(format!("{start}-{i}"));
                let now = s
                    .get(key.clone())
                    .await
                    .expect("get")
                    .map_or(0, |kv| kv.mod_revision);
                let at = match now {
                    0 => s.create(key, value, 0).await.expect("create"),
                    r => s.update(key, value, r, 0).await.expect("update"),
                };
                let line = format!("{w} {start}-{i} {at}\n");
                // One write call a line: lines of several tasks do not mix.
                std::io::stdout()
                    .write_all(line.as_bytes())
                    .expect("the parent listens");
            }
        }));
    }
    futures::future::join_all(tasks).await;
}

struct Seen {
    /// Newest acknowledged (revision, value) of each writer.
    acknowledged: BTreeMap<usize, (u64, String)>,
    newest: u64,
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let mut random = StdRng::seed_from_u64(20261124);
    let mut seen = Seen {
        acknowledged: BTreeMap::new(),
        newest: 0,
    };
    for round in 0..ROUNDS {
        run_and_kill(
            &path,
            Duration::from_micros(random.random_range(20_000..90_000)),
            &mut seen,
        );
        check(&path, &mut seen, round);
    }
    nothing_is_left_over(&path);
    assert!(
        seen.newest > ROUNDS as u64,
        "the writers wrote: {}",
        seen.newest
    );
}

fn run_and_kill(path: &std::path::Path, after: Duration, seen: &mut Seen) {
    let me = std::env::current_exe().expect("this test's path");
    let mut child = Command::new(me)
        .args([
            "crash::crash_child",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let lines = lines.split(b'\n').map_while(Result::ok);
        lines
            .map(|l| String::from_utf8_lossy(&l).into_owned())
            .collect::<Vec<_>>()
    });
    std::thread::sleep(after);
    child.kill().expect("kill");
    child.wait().expect("wait");
    for line in reader.join().expect("reader") {
        let words: Vec<&str> = line.split(' ').collect();
        let [w, value, revision] = words[..] else {
            continue;
        };
        let (Ok(w), Ok(revision)) = (w.parse(), revision.parse::<u64>()) else {
            continue;
        };
        let known = seen.acknowledged.entry(w).or_default();
        if revision > known.0 {
            *known = (revision, value.to_string());
        }
    }
}

fn check(path: &std::path::Path, seen: &mut Seen, round: usize) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let s = super::sqlite::open(path);
        let now = s.revision().await.expect("revision");
        assert!(
            now >= seen.newest,
            "round {round}: revision {now} after {}",
            seen.newest
        );
        for (w, (revision, value)) in &seen.acknowledged {
            let kv = s
                .get(format!("k/{w}"))
                .await
                .expect("get")
                .expect("acknowledged");
            assert!(
                kv.mod_revision >= *revision,
                "round {round}: writer {w} lost {revision}"
            );
            if kv.mod_revision == *revision {
                assert_eq!(kv.value, value.as_bytes());
            }
        }
        if now > seen.newest {
            let mut watch = s
                .watch(Range::prefix("k/"), seen.newest + 1)
                .await
                .expect("watch");
            let mut at = seen.newest.max(1);
            while at < now {
                let batch = watch.next().await.expect("more").expect("no error");
                assert_eq!(batch.revision, at + 1, "round {round}: gap or duplicate");
                assert!(matches!(batch.events[..], [Event::Put { .. }]));
                at = batch.revision;
            }
        }
        s.verify().await.expect("verify");
        seen.newest = now;
    });
}

/// Compactions that were killed have been finished: after one more there is one row for each key.
fn nothing_is_left_over(path: &std::path::Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let s = super::sqlite::open(path);
        let now = s.revision().await.expect("revision");
        match s.compact(now).await {
            Ok(()) | Err(store::Error::Compacted { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    });
    drop(runtime);
    let c = rusqlite::Connection::open(path).expect("open");
    let rows: u32 = c
        .query_row("SELECT COUNT(*) FROM history", [], |r| r.get(0))
        .expect("count");
    assert_eq!(rows as usize, WRITERS);
}
