//! Watches: no gap, no duplicate, whole revisions.

use bytes::Bytes;

use super::{b, del, next, put};
use crate::{Event, Op, Range, Store, Txn, WatchStream};

pub async fn watch_live(s: Store) {
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

pub async fn watch_past(s: Store) {
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

pub async fn watch_range(s: Store) {
    let from = put(&s, "a", "1").await;
    put(&s, "b/1", "1").await;
    let mut w = s.watch(Range::prefix("b/"), from).await.expect("watch");
    put(&s, "c", "1").await;
    let last = put(&s, "b/2", "1").await;
    assert_eq!(next(&mut w).await.expect("batch").events[0].key(), "b/1");
    let batch = next(&mut w).await.expect("batch");
    assert_eq!((batch.revision, batch.events.len()), (last, 1));
}

pub async fn watch_before(s: Store) {
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

pub async fn watch_groups(s: Store) {
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

pub async fn watch_load(s: Store) {
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

pub async fn watch_future(s: Store) {
    let now = put(&s, "a", "1").await;
    let mut w = s.watch(Range::one("a"), now + 3).await.expect("watch");
    put(&s, "a", "2").await;
    put(&s, "a", "3").await;
    let third = put(&s, "a", "4").await;
    let batch = next(&mut w).await.expect("batch");
    assert_eq!((batch.revision, third), (now + 3, now + 3));
}

pub async fn watch_progress(s: Store) {
    let first = put(&s, "w", "1").await;
    let mut w = s.watch(Range::one("w"), first).await.expect("watch");
    assert_eq!(next(&mut w).await.expect("batch").revision, first);
    // Nothing of this concerns the watcher, so that only progress tells how far it is.
    let last = put(&s, "x", "1").await;
    let told = async {
        loop {
            s.request_progress().await.expect("request");
            let soon = std::time::Duration::from_millis(100);
            if let Ok(batch) = tokio::time::timeout(soon, next(&mut w)).await {
                let batch = batch.expect("batch");
                assert!(batch.events.is_empty(), "{batch:?}");
                if batch.revision >= last {
                    return;
                }
            }
        }
    };
    let told = tokio::time::timeout(super::DEADLINE, told).await;
    told.expect("progress in time");
    let again = put(&s, "w", "2").await;
    let batch = loop {
        let batch = next(&mut w).await.expect("batch");
        if !batch.events.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.revision, again);
}

pub async fn watch_many(s: Store) {
    let mut watches = Vec::new();
    for i in 0..20 {
        let range = Range::one(format!("k{i}"));
        watches.push(s.watch(range, 0).await.expect("watch"));
    }
    let mut written = Vec::new();
    for i in 0..20 {
        written.push(put(&s, &format!("k{i}"), "1").await);
    }
    for (w, at) in watches.iter_mut().zip(written) {
        let batch = next(w).await.expect("batch");
        assert_eq!((batch.revision, batch.events.len()), (at, 1));
    }
}

pub async fn watch_long_past(s: Store) {
    let first = put(&s, "w", "0").await;
    let mut written = Vec::new();
    for chunk in 0..25 {
        let puts = (0..100).map(|i| Op::Put {
            key: b(&format!("w{i}")),
            value: b(&chunk.to_string()),
            lease: 0,
        });
        let txn = Txn {
            success: puts.collect(),
            ..Txn::default()
        };
        written.push(s.txn(txn).await.expect("txn").revision);
    }
    let mut w = s.watch(Range::prefix("w"), first).await.expect("watch");
    assert_eq!(next(&mut w).await.expect("batch").events.len(), 1);
    // A store that others use too has revisions in between.
    for revision in written {
        let batch = next(&mut w).await.expect("batch");
        assert_eq!((batch.revision, batch.events.len()), (revision, 100));
    }
}

pub async fn watch_put_data(s: Store) {
    let first = put(&s, "w", "1").await;
    let second = put(&s, "w", "2").await;
    let mut w = s.watch(Range::one("w"), second).await.expect("watch");
    let kv = s.get("w").await.expect("get").expect("there");
    match &next(&mut w).await.expect("batch").events[..] {
        [Event::Put { kv: seen, .. }] => assert_eq!(*seen, kv),
        other => panic!("{other:?}"),
    }
    assert_eq!((kv.create_revision, kv.version), (first, 2));
}
