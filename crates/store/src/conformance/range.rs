//! Ranges: order, limits, the past and the future.

use bytes::Bytes;

use super::{b, del, put};
use crate::{Error, Range, Store};

pub async fn ranges(s: Store) {
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

pub async fn old_range(s: Store) {
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

pub async fn future_range(s: Store) {
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

pub async fn high_bytes(s: Store) {
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

pub async fn everything(s: Store) {
    for key in [&b"a"[..], b"\x01", b"\xff\xff"] {
        let key = Bytes::copy_from_slice(key);
        s.create(key, b("x"), 0).await.expect("create");
    }
    let all = s.range(Range::prefix("")).await.expect("range");
    let keys: Vec<&[u8]> = all.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [&b"\x01"[..], b"a", b"\xff\xff"]);
}

pub async fn empty(s: Store) {
    let now = put(&s, "a", "1").await;
    for range in [
        Range::prefix("z"),
        Range::one("z"),
        Range {
            key: b("b"),
            end: b("a"),
            ..Range::default()
        },
    ] {
        let answer = s.range(range).await.expect("range");
        assert_eq!((answer.kvs.len(), answer.count), (0, 0));
        assert_eq!((answer.more, answer.revision), (false, now));
    }
}

pub async fn pages_of_one_revision(s: Store) {
    for i in 0..25 {
        put(&s, &format!("p/{i:02}"), "old").await;
    }
    let mut page = Range {
        limit: 10,
        ..Range::prefix("p/")
    };
    let mut seen = Vec::new();
    loop {
        let answer = s.range(page.clone()).await.expect("range");
        if page.revision == 0 {
            page.revision = answer.revision;
        }
        assert_eq!(answer.count, 25 - seen.len());
        seen.extend(answer.kvs);
        // What happens between two pages is not seen.
        put(&s, "p/99", "new").await;
        put(&s, "p/20", "new").await;
        del(&s, "p/24").await;
        if !answer.more {
            break;
        }
        let last = seen.last().expect("some");
        page.key = [&last.key[..], &[0]].concat().into();
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.iter().all(|kv| kv.value == b("old")));
}
