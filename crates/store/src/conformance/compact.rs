//! Compaction: what it takes and what it leaves.

use super::{b, del, next, put};
use crate::{Error, Event, Range, Store};

pub async fn compaction(s: Store) {
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

pub async fn compacted_watch(s: Store) {
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

pub async fn compacted_delete(s: Store) {
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

pub async fn edge(s: Store) {
    put(&s, "a", "1").await;
    let gone = del(&s, "a").await;
    let last = put(&s, "b", "1").await;
    s.compact(gone).await.expect("compact");
    // What happened at the compacted revision can still be watched, and what came later.
    let mut w = s.watch(Range::prefix(""), gone).await.expect("watch");
    let batch = next(&mut w).await.expect("batch");
    assert!(matches!(&batch.events[..], [Event::Delete { revision, .. }] if *revision == gone));
    assert_eq!(next(&mut w).await.expect("batch").revision, last);
}

pub async fn names_the_revision(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    let last = put(&s, "a", "3").await;
    s.compact(last).await.expect("compact");
    let past = Range {
        revision: first,
        ..Range::one("a")
    };
    match s.range(past).await {
        Err(Error::Compacted { compact_revision }) => assert_eq!(compact_revision, last),
        other => panic!("{other:?}"),
    }
    let mut w = match s.watch(Range::one("a"), first).await {
        Ok(w) => w,
        Err(Error::Compacted { compact_revision }) => return assert_eq!(compact_revision, last),
        Err(e) => panic!("{e}"),
    };
    match next(&mut w).await {
        Err(Error::Compacted { compact_revision }) => assert_eq!(compact_revision, last),
        other => panic!("{other:?}"),
    }
    assert!(
        futures::StreamExt::next(&mut w).await.is_none(),
        "it has ended"
    );
}

pub async fn under_load(s: Store) {
    let writers = (0..4).map(|w| {
        let s = s.clone();
        tokio::spawn(async move {
            for i in 0..60 {
                put(&s, &format!("l/{w}/{}", i % 5), &i.to_string()).await;
                if i % 7 == 0 {
                    del(&s, &format!("l/{w}/{}", i % 3)).await;
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..10 {
        let now = put(&s, "marker", "1").await;
        let before = s.hash(now).await.expect("hash");
        match s.compact(now).await {
            Ok(()) => {}
            Err(e) => panic!("{e}"),
        }
        // Compaction takes nothing of what can still be read.
        assert_eq!(s.hash(now).await.expect("hash"), before);
    }
    for w in writers {
        w.await.expect("writer");
    }
    s.verify().await.expect("verify");
    let all = s.range(Range::prefix("l/")).await.expect("range");
    assert!(all.kvs.windows(2).all(|w| w[0].key < w[1].key));
    for w in 0..4 {
        let kv = s
            .get(format!("l/{w}/4"))
            .await
            .expect("get")
            .expect("there");
        assert_eq!(kv.value, b("59"));
    }
}

pub async fn again_and_again(s: Store) {
    for round in 0..5 {
        let mut last = 0;
        for i in 0..20 {
            last = put(&s, &format!("k{}", i % 4), &format!("{round}-{i}")).await;
        }
        del(&s, "k3").await;
        s.compact(last).await.expect("compact");
        let then = Range {
            revision: last,
            ..Range::prefix("k")
        };
        assert_eq!(s.range(then).await.expect("range").count, 4);
        assert_eq!(s.range(Range::prefix("k")).await.expect("range").count, 3);
    }
    s.verify().await.expect("verify");
}
