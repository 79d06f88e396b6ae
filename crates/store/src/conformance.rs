//! The suite that every backend passes. Public, so that each backend's tests run the same cases:
//! `run(make)` calls `make` once a case for an empty store and names the case that fails.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::{
    Compare, Comparison, Error, Event, Op, OpResult, Range, Store, Target, Txn, WatchBatch,
    WatchStream, WriteError,
};

/// How long a case waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

type Case = (&'static str, fn(Store) -> BoxFuture<'static, ()>);

/// Every case by name.
pub const CASES: &[Case] = &[
    ("create_then_get", |s| Box::pin(create_then_get(s))),
    ("create_of_an_existing_key_conflicts", |s| {
        Box::pin(create_existing(s))
    }),
    ("update_needs_the_expected_revision", |s| {
        Box::pin(update_expected(s))
    }),
    ("delete_needs_the_expected_revision", |s| {
        Box::pin(delete_expected(s))
    }),
    ("versions_count_and_start_anew_after_a_delete", |s| {
        Box::pin(versions(s))
    }),
    ("a_transaction_has_one_revision", |s| {
        Box::pin(one_revision(s))
    }),
    ("a_transaction_without_effect_has_none", |s| {
        Box::pin(no_effect(s))
    }),
    ("compares_of_every_kind", |s| Box::pin(compares(s))),
    ("failure_operations_run_when_a_compare_fails", |s| {
        Box::pin(failure_ops(s))
    }),
    ("duplicate_keys_are_refused", |s| Box::pin(duplicates(s))),
    ("too_large_is_refused", |s| Box::pin(too_large(s))),
    ("ranges_are_ordered_and_limited", |s| Box::pin(ranges(s))),
    ("a_range_of_an_old_revision_sees_the_past", |s| {
        Box::pin(old_range(s))
    }),
    ("a_range_of_a_future_revision_fails", |s| {
        Box::pin(future_range(s))
    }),
    ("prefixes_with_high_bytes", |s| Box::pin(high_bytes(s))),
    ("values_of_any_bytes", |s| Box::pin(any_bytes(s))),
    ("range_deletes", |s| Box::pin(range_deletes(s))),
    ("a_watch_sees_what_comes", |s| Box::pin(watch_live(s))),
    ("a_watch_from_the_past_has_no_gap", |s| {
        Box::pin(watch_past(s))
    }),
    ("a_watch_sees_only_its_range", |s| Box::pin(watch_range(s))),
    ("a_watch_gives_what_was_before", |s| {
        Box::pin(watch_before(s))
    }),
    ("a_watch_groups_a_revision", |s| Box::pin(watch_groups(s))),
    ("watches_under_load_see_everything_once", |s| {
        Box::pin(watch_load(s))
    }),
    ("compaction_takes_the_past", |s| Box::pin(compaction(s))),
    ("a_watch_of_the_compacted_past_fails", |s| {
        Box::pin(compacted_watch(s))
    }),
    ("a_deleted_key_stays_deleted_after_compaction", |s| {
        Box::pin(compacted_delete(s))
    }),
    ("leases_end_and_take_their_keys", |s| {
        Box::pin(lease_ends(s))
    }),
    ("a_kept_lease_lives", |s| Box::pin(lease_kept(s))),
    ("a_revoked_lease_takes_its_keys_at_once", |s| {
        Box::pin(lease_revoked(s))
    }),
    ("an_unknown_lease_is_refused", |s| {
        Box::pin(lease_unknown(s))
    }),
    ("a_put_without_the_lease_detaches_the_key", |s| {
        Box::pin(lease_detached(s))
    }),
    ("one_of_many_writers_wins", |s| Box::pin(one_wins(s))),
    ("counters_lose_no_increment", |s| Box::pin(counters(s))),
];

/// Runs all cases, each on a store of its own.
pub async fn run<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Store>,
{
    for (name, case) in CASES {
        let store = make().await;
        let done = tokio::spawn(tokio::time::timeout(DEADLINE * 3, case(store))).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("{name}: not done in time"),
            Err(e) => panic!("{name}: {e}"),
        }
    }
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(s: &Store, key: &str, value: &str) -> u64 {
    put_leased(s, key, value, 0).await.expect("put")
}

async fn put_leased(s: &Store, key: &str, value: &str, lease: i64) -> Result<u64, Error> {
    let op = Op::Put {
        key: b(key),
        value: b(value),
        lease,
    };
    Ok(s.txn(Txn {
        success: vec![op],
        ..Txn::default()
    })
    .await?
    .revision)
}

async fn del(s: &Store, key: &str) -> u64 {
    let txn = Txn {
        success: vec![Op::Delete { key: b(key) }],
        ..Txn::default()
    };
    s.txn(txn).await.expect("delete").revision
}

async fn next(w: &mut WatchStream) -> Result<WatchBatch, Error> {
    tokio::time::timeout(DEADLINE, w.next())
        .await
        .expect("in time")
        .expect("not ended")
}

async fn create_then_get(s: Store) {
    let at = s.create(b("a"), b("1"), 0).await.expect("create");
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!(
        (&kv.value[..], kv.mod_revision, kv.create_revision),
        (&b"1"[..], at, at)
    );
    assert_eq!((kv.version, kv.lease), (1, 0));
    assert_eq!(s.revision().await.expect("revision"), at);
    assert!(s.get("b").await.expect("get").is_none());
}

async fn create_existing(s: Store) {
    let at = s.create(b("a"), b("1"), 0).await.expect("create");
    match s.create(b("a"), b("2"), 0).await {
        Err(WriteError::Conflict(Some(kv))) => assert_eq!(kv.mod_revision, at),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.revision().await.expect("revision"), at);
}

async fn update_expected(s: Store) {
    let first = s.create(b("a"), b("1"), 0).await.expect("create");
    let second = s.update(b("a"), b("2"), first, 0).await.expect("update");
    assert!(second > first);
    match s.update(b("a"), b("3"), first, 0).await {
        Err(WriteError::Conflict(Some(kv))) => assert_eq!(&kv.value[..], b"2"),
        other => panic!("{other:?}"),
    }
    match s.update(b("none"), b("3"), first, 0).await {
        Err(WriteError::Conflict(None)) => {}
        other => panic!("{other:?}"),
    }
}

async fn delete_expected(s: Store) {
    let first = s.create(b("a"), b("1"), 0).await.expect("create");
    assert!(matches!(
        s.delete(b("a"), first + 7).await,
        Err(WriteError::Conflict(Some(_)))
    ));
    let gone = s.delete(b("a"), first).await.expect("delete");
    assert_eq!(gone, first + 1);
    assert!(matches!(
        s.delete(b("a"), first).await,
        Err(WriteError::Conflict(None))
    ));
}

async fn versions(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!((kv.version, kv.create_revision), (2, first));
    del(&s, "a").await;
    let again = put(&s, "a", "3").await;
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!((kv.version, kv.create_revision), (1, again));
}

async fn one_revision(s: Store) {
    let before = s.revision().await.expect("revision");
    let puts = ["a", "b", "c"].map(|k| Op::Put {
        key: b(k),
        value: b("x"),
        lease: 0,
    });
    let r = s
        .txn(Txn {
            success: puts.to_vec(),
            ..Txn::default()
        })
        .await
        .expect("txn");
    assert_eq!(r.revision, before + 1);
    let all = s.range(Range::prefix(Bytes::new())).await;
    // An empty prefix is every key; etcd spells it `\0`.
    let all = match all {
        Ok(all) if !all.kvs.is_empty() => all,
        _ => s
            .range(Range {
                key: b("a"),
                end: b("d"),
                ..Range::default()
            })
            .await
            .expect("range"),
    };
    assert_eq!(all.kvs.len(), 3);
    assert!(all.kvs.iter().all(|kv| kv.mod_revision == r.revision));
}

async fn no_effect(s: Store) {
    let at = put(&s, "a", "1").await;
    assert_eq!(del(&s, "none").await, at);
    let get = Txn {
        success: vec![Op::Get { key: b("a") }],
        ..Txn::default()
    };
    let r = s.txn(get).await.expect("txn");
    assert_eq!(r.revision, at);
    assert!(matches!(&r.results[..], [OpResult::Got(Some(kv))] if kv.mod_revision == at));
}

async fn compares(s: Store) {
    let at = put(&s, "a", "m").await;
    let on = |key: &str, target: Target, comparison: Comparison| Compare {
        key: b(key),
        target,
        comparison,
    };
    use Comparison::{Equal, Greater, Less, NotEqual};
    for (compare, expected) in [
        (on("a", Target::ModRevision(at), Equal), true),
        (on("a", Target::ModRevision(at), NotEqual), false),
        (on("a", Target::ModRevision(at), Greater), false),
        (on("a", Target::ModRevision(at - 1), Greater), true),
        (on("a", Target::ModRevision(at + 1), Less), true),
        (on("a", Target::CreateRevision(at), Equal), true),
        (on("a", Target::Version(1), Equal), true),
        (on("a", Target::Version(2), Less), true),
        (on("a", Target::Value(b("m")), Equal), true),
        (on("a", Target::Value(b("a")), Greater), true),
        (on("a", Target::Value(b("z")), Less), true),
        (on("none", Target::ModRevision(0), Equal), true),
        (on("none", Target::Version(0), Equal), true),
        (on("none", Target::CreateRevision(0), Greater), false),
        (on("none", Target::Value(b("m")), Equal), false),
        (on("none", Target::Value(b("m")), NotEqual), false),
    ] {
        let txn = Txn {
            compares: vec![compare.clone()],
            ..Txn::default()
        };
        assert_eq!(
            s.txn(txn).await.expect("txn").succeeded,
            expected,
            "{compare:?}"
        );
    }
}

async fn failure_ops(s: Store) {
    put(&s, "a", "1").await;
    let txn = Txn {
        compares: vec![Compare::unchanged(b("a"), 1 << 40), Compare::absent(b("z"))],
        success: vec![Op::Put {
            key: b("s"),
            value: b("1"),
            lease: 0,
        }],
        failure: vec![
            Op::Put {
                key: b("f"),
                value: b("1"),
                lease: 0,
            },
            Op::Get { key: b("a") },
        ],
    };
    let r = s.txn(txn).await.expect("txn");
    assert!(!r.succeeded);
    assert_eq!(r.results.len(), 2);
    assert!(s.get("f").await.expect("get").is_some());
    assert!(s.get("s").await.expect("get").is_none());
}

async fn duplicates(s: Store) {
    let at = s.revision().await.expect("revision");
    let twice = Op::Put {
        key: b("a"),
        value: b("1"),
        lease: 0,
    };
    let txn = Txn {
        success: vec![twice.clone(), twice.clone()],
        ..Txn::default()
    };
    assert!(matches!(s.txn(txn).await, Err(Error::DuplicateKey)));
    let over = Op::DeleteRange {
        key: b("a"),
        end: b("b"),
    };
    let txn = Txn {
        success: vec![twice, over],
        ..Txn::default()
    };
    assert!(matches!(s.txn(txn).await, Err(Error::DuplicateKey)));
    assert_eq!(s.revision().await.expect("revision"), at);
}

async fn too_large(s: Store) {
    let value = Bytes::from(vec![0u8; 4 << 20]);
    let op = Op::Put {
        key: b("a"),
        value,
        lease: 0,
    };
    assert!(
        s.txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .is_err()
    );
    let many = (0..1000)
        .map(|i| Op::Get {
            key: b(&format!("k{i}")),
        })
        .collect();
    assert!(
        s.txn(Txn {
            success: many,
            ..Txn::default()
        })
        .await
        .is_err()
    );
    assert!(s.get("a").await.expect("get").is_none());
}

async fn ranges(s: Store) {
    for key in ["p/c", "p/a", "q", "p/b", "o"] {
        put(&s, key, key).await;
    }
    let keys = |r: &crate::RangeResponse| {
        r.kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect::<Vec<_>>()
    };
    let all = s.range(Range::prefix("p/")).await.expect("range");
    assert_eq!(keys(&all), ["p/a", "p/b", "p/c"]);
    assert_eq!((all.more, all.count), (false, 3));
    let two = s
        .range(Range {
            limit: 2,
            ..Range::prefix("p/")
        })
        .await
        .expect("range");
    assert_eq!((keys(&two).len(), two.more, two.count), (2, true, 3));
    let rest = Range {
        key: b("p/b\0"),
        end: crate::prefix_end(b"p/"),
        limit: 2,
        ..Range::default()
    };
    let rest = s.range(rest).await.expect("range");
    assert_eq!((keys(&rest), rest.more), (vec!["p/c".to_string()], false));
    let count = s
        .range(Range {
            count_only: true,
            ..Range::prefix("p/")
        })
        .await
        .expect("range");
    assert_eq!((count.count, count.kvs.len()), (3, 0));
    let bare = s
        .range(Range {
            keys_only: true,
            ..Range::prefix("p/")
        })
        .await
        .expect("range");
    assert!(
        bare.kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.mod_revision > 0)
    );
}

async fn old_range(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "b", "1").await;
    put(&s, "a", "2").await;
    let end = del(&s, "a").await;
    let at = |revision| Range {
        revision,
        ..Range {
            key: b("a"),
            end: b("z"),
            ..Range::default()
        }
    };
    let past = s.range(at(first)).await.expect("range");
    assert_eq!((past.kvs.len(), &past.kvs[0].value[..]), (1, &b"1"[..]));
    assert_eq!(past.revision, end);
    let middle = s.range(at(end - 1)).await.expect("range");
    assert_eq!((middle.kvs.len(), &middle.kvs[0].value[..]), (2, &b"2"[..]));
    assert_eq!(s.range(at(end)).await.expect("range").kvs.len(), 1);
}

async fn future_range(s: Store) {
    let now = put(&s, "a", "1").await;
    let range = Range {
        revision: now + 5,
        ..Range::one("a")
    };
    assert!(matches!(
        s.range(range).await,
        Err(Error::FutureRevision { .. })
    ));
}

async fn high_bytes(s: Store) {
    for key in [&b"\xff"[..], b"\xff\xff", b"\xfe", b"\xff\x01"] {
        s.create(Bytes::copy_from_slice(key), b("x"), 0)
            .await
            .expect("create");
    }
    let prefix = Bytes::from_static(b"\xff");
    assert_eq!(
        s.range(Range::prefix(prefix))
            .await
            .expect("range")
            .kvs
            .len(),
        3
    );
    let prefix = Bytes::from_static(b"\xfe");
    assert_eq!(
        s.range(Range::prefix(prefix))
            .await
            .expect("range")
            .kvs
            .len(),
        1
    );
}

async fn any_bytes(s: Store) {
    let value: Bytes = (0..=255u8).collect::<Vec<_>>().into();
    s.create(b("bytes"), value.clone(), 0)
        .await
        .expect("create");
    s.create(b("empty"), Bytes::new(), 0).await.expect("create");
    assert_eq!(
        s.get("bytes").await.expect("get").expect("there").value,
        value
    );
    assert!(
        s.get("empty")
            .await
            .expect("get")
            .expect("there")
            .value
            .is_empty()
    );
}

async fn range_deletes(s: Store) {
    for key in ["d/1", "d/2", "e"] {
        put(&s, key, "x").await;
    }
    let op = Op::DeleteRange {
        key: b("d/"),
        end: crate::prefix_end(b"d/"),
    };
    let r = s
        .txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .expect("txn");
    assert!(matches!(&r.results[..], [OpResult::Deleted { before }] if before.len() == 2));
    assert_eq!(
        s.range(Range::prefix("d/")).await.expect("range").kvs.len(),
        0
    );
    assert!(s.get("e").await.expect("get").is_some());
}

async fn watch_live(s: Store) {
    put(&s, "w", "0").await;
    let mut w = s.watch(Range::prefix("w"), 0).await.expect("watch");
    let first = put(&s, "w", "1").await;
    let second = del(&s, "w").await;
    let batch = next(&mut w).await.expect("batch");
    assert_eq!(batch.revision, first);
    assert!(matches!(&batch.events[..], [Event::Put { kv, .. }] if kv.value == b("1")));
    let batch = next(&mut w).await.expect("batch");
    assert!(matches!(&batch.events[..], [Event::Delete { revision, .. }] if *revision == second));
}

async fn watch_past(s: Store) {
    let mut expected = Vec::new();
    for i in 0..40 {
        expected.push(put(&s, &format!("w{}", i % 7), &i.to_string()).await);
    }
    let mut w = s
        .watch(Range::prefix("w"), expected[10])
        .await
        .expect("watch");
    for i in 40..60 {
        expected.push(put(&s, &format!("w{}", i % 7), &i.to_string()).await);
    }
    for at in &expected[10..] {
        assert_eq!(next(&mut w).await.expect("batch").revision, *at);
    }
}

async fn watch_range(s: Store) {
    let from = put(&s, "a", "1").await;
    put(&s, "b/1", "1").await;
    let mut w = s.watch(Range::prefix("b/"), from).await.expect("watch");
    put(&s, "c", "1").await;
    let last = put(&s, "b/2", "1").await;
    assert_eq!(next(&mut w).await.expect("batch").events[0].key(), "b/1");
    let batch = next(&mut w).await.expect("batch");
    assert_eq!((batch.revision, batch.events.len()), (last, 1));
}

async fn watch_before(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    del(&s, "a").await;
    put(&s, "a", "3").await;
    let check = async |mut w: WatchStream| {
        let mut seen = Vec::new();
        for _ in 0..4 {
            match next(&mut w).await.expect("batch").events.remove(0) {
                Event::Put { before, .. } => seen.push(before.map(|kv| kv.value)),
                Event::Delete { before, .. } => seen.push(before.map(|kv| kv.value)),
            }
        }
        assert_eq!(seen, [None, Some(b("1")), Some(b("2")), None]);
    };
    check(s.watch(Range::one("a"), first).await.expect("watch")).await;
}

async fn watch_groups(s: Store) {
    let start = s.revision().await.expect("revision") + 1;
    let mut live = s.watch(Range::prefix("g"), 0).await.expect("watch");
    let puts = ["g1", "g2", "x", "g3"].map(|k| Op::Put {
        key: b(k),
        value: b("1"),
        lease: 0,
    });
    let at = s
        .txn(Txn {
            success: puts.to_vec(),
            ..Txn::default()
        })
        .await
        .expect("txn")
        .revision;
    let mut past = s.watch(Range::prefix("g"), start).await.expect("watch");
    for w in [&mut live, &mut past] {
        let batch = next(w).await.expect("batch");
        assert_eq!(batch.revision, at);
        let keys: Vec<&Bytes> = batch.events.iter().map(Event::key).collect();
        assert_eq!(keys, ["g1", "g2", "g3"]);
    }
}

async fn watch_load(s: Store) {
    let start = s.revision().await.expect("revision") + 1;
    let mut writers = Vec::new();
    for w in 0..8 {
        let s = s.clone();
        writers.push(tokio::spawn(async move {
            for i in 0..50 {
                put(&s, &format!("l/{w}"), &i.to_string()).await;
            }
        }));
    }
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(s.watch(Range::prefix("l/"), start).await.expect("watch"));
        tokio::task::yield_now().await;
    }
    for mut w in watches {
        let (mut last, mut events) = (0, 0);
        while events < 400 {
            let batch = next(&mut w).await.expect("batch");
            assert!(batch.revision > last, "{} after {last}", batch.revision);
            last = batch.revision;
            events += batch.events.len();
        }
        assert_eq!(events, 400);
    }
    for w in writers {
        w.await.expect("writer");
    }
}

async fn compaction(s: Store) {
    let first = put(&s, "a", "1").await;
    let second = put(&s, "a", "2").await;
    put(&s, "b", "1").await;
    s.compact(second).await.expect("compact");
    let past = Range {
        revision: first,
        ..Range::one("a")
    };
    assert!(matches!(s.range(past).await, Err(Error::Compacted { .. })));
    let edge = Range {
        revision: second,
        ..Range::one("a")
    };
    assert_eq!(s.range(edge).await.expect("range").kvs[0].value, b("2"));
    assert_eq!(s.get("a").await.expect("get").expect("there").version, 2);
    assert!(matches!(
        s.compact(second).await,
        Err(Error::Compacted { .. })
    ));
    assert!(matches!(
        s.compact(1 << 40).await,
        Err(Error::FutureRevision { .. })
    ));
}

async fn compacted_watch(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    let last = put(&s, "a", "3").await;
    s.compact(last).await.expect("compact");
    let failed = match s.watch(Range::one("a"), first).await {
        Ok(mut w) => next(&mut w).await.map(|_| ()),
        Err(e) => Err(e),
    };
    assert!(matches!(failed, Err(Error::Compacted { .. })), "{failed:?}");
    let mut w = s.watch(Range::one("a"), last + 1).await.expect("watch");
    let at = put(&s, "a", "4").await;
    assert_eq!(next(&mut w).await.expect("batch").revision, at);
}

async fn compacted_delete(s: Store) {
    put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    let gone = del(&s, "a").await;
    let last = put(&s, "b", "1").await;
    s.compact(gone).await.expect("compact");
    assert!(s.get("a").await.expect("get").is_none());
    let kept = s
        .range(Range {
            key: b("a"),
            end: b("z"),
            ..Range::default()
        })
        .await;
    assert_eq!(kept.expect("range").kvs.len(), 1);
    s.compact(last).await.expect("compact");
    assert!(s.get("b").await.expect("get").is_some());
}

async fn lease_ends(s: Store) {
    let id = s
        .lease_grant(0, Duration::from_secs(1))
        .await
        .expect("grant");
    let at = put_leased(&s, "l", "1", id).await.expect("put");
    let mut w = s.watch(Range::one("l"), at + 1).await.expect("watch");
    let batch = next(&mut w).await.expect("batch");
    assert!(matches!(&batch.events[..], [Event::Delete { .. }]));
    assert!(matches!(
        s.lease_keep_alive(id).await,
        Err(Error::LeaseNotFound)
    ));
}

async fn lease_kept(s: Store) {
    let ttl = Duration::from_secs(2);
    let id = s.lease_grant(0, ttl).await.expect("grant");
    put_leased(&s, "l", "1", id).await.expect("put");
    let until = tokio::time::Instant::now() + Duration::from_secs(4);
    while tokio::time::Instant::now() < until {
        assert_eq!(s.lease_keep_alive(id).await.expect("keep alive"), ttl);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(s.get("l").await.expect("get").expect("there").lease, id);
}

async fn lease_revoked(s: Store) {
    let id = s
        .lease_grant(4711, Duration::from_secs(600))
        .await
        .expect("grant");
    assert_eq!(id, 4711);
    assert!(matches!(
        s.lease_grant(id, Duration::from_secs(9)).await,
        Err(Error::LeaseExists)
    ));
    put_leased(&s, "l1", "1", id).await.expect("put");
    put_leased(&s, "l2", "1", id).await.expect("put");
    s.lease_revoke(id).await.expect("revoke");
    assert_eq!(
        s.range(Range::prefix("l")).await.expect("range").kvs.len(),
        0
    );
    assert!(matches!(
        s.lease_revoke(id).await,
        Err(Error::LeaseNotFound)
    ));
}

async fn lease_unknown(s: Store) {
    assert!(matches!(
        put_leased(&s, "l", "1", 99).await,
        Err(Error::LeaseNotFound)
    ));
    assert!(s.get("l").await.expect("get").is_none());
}

async fn lease_detached(s: Store) {
    let id = s
        .lease_grant(0, Duration::from_secs(600))
        .await
        .expect("grant");
    put_leased(&s, "l", "1", id).await.expect("put");
    put(&s, "l", "2").await;
    s.lease_revoke(id).await.expect("revoke");
    assert_eq!(s.get("l").await.expect("get").expect("there").value, b("2"));
}

async fn one_wins(s: Store) {
    let at = s.create(b("a"), b("0"), 0).await.expect("create");
    let tries = (0..16).map(|i| {
        let s = s.clone();
        tokio::spawn(async move { s.update(b("a"), b(&i.to_string()), at, 0).await.is_ok() })
    });
    let won = futures::future::join_all(tries).await;
    assert_eq!(won.into_iter().filter(|r| matches!(r, Ok(true))).count(), 1);
}

async fn counters(s: Store) {
    s.create(b("n"), b("0"), 0).await.expect("create");
    let adders = (0..8).map(|_| {
        let s = s.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let kv = s.get("n").await.expect("get").expect("there");
                    let n: u64 = String::from_utf8_lossy(&kv.value)
                        .parse()
                        .expect("a number");
                    let value = b(&(n + 1).to_string());
                    match s.update(b("n"), value, kv.mod_revision, 0).await {
                        Ok(_) => break,
                        Err(WriteError::Conflict(_)) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        })
    });
    for done in futures::future::join_all(adders).await {
        done.expect("adder");
    }
    assert_eq!(
        s.get("n").await.expect("get").expect("there").value,
        b("160")
    );
}
