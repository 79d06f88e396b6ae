//! Transactions: compares, operations, conflicts, bounds.

use bytes::Bytes;

use super::{b, del, put};
use crate::{Compare, Comparison, Error, Op, OpResult, Range, Store, Target, Txn, WriteError};

pub async fn create_then_get(s: Store) {
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

pub async fn create_existing(s: Store) {
    let at = s.create(b("a"), b("1"), 0).await.expect("create");
    match s.create(b("a"), b("2"), 0).await {
        Err(WriteError::Conflict(Some(kv))) => assert_eq!(kv.mod_revision, at),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.revision().await.expect("revision"), at);
}

pub async fn update_expected(s: Store) {
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

pub async fn delete_expected(s: Store) {
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

pub async fn versions(s: Store) {
    let first = put(&s, "a", "1").await;
    put(&s, "a", "2").await;
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!((kv.version, kv.create_revision), (2, first));
    del(&s, "a").await;
    let again = put(&s, "a", "3").await;
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!((kv.version, kv.create_revision), (1, again));
}

pub async fn one_revision(s: Store) {
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

pub async fn no_effect(s: Store) {
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

pub async fn compares(s: Store) {
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

pub async fn failure_ops(s: Store) {
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

pub async fn duplicates(s: Store) {
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

pub async fn too_large(s: Store) {
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

pub async fn range_deletes(s: Store) {
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

pub async fn any_bytes(s: Store) {
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

pub async fn get_sees_own_writes(s: Store) {
    let at = put(&s, "a", "1").await;
    let txn = Txn {
        success: vec![
            Op::Get { key: b("a") },
            Op::Put {
                key: b("a"),
                value: b("2"),
                lease: 0,
            },
            Op::Get { key: b("a") },
        ],
        ..Txn::default()
    };
    let r = s.txn(txn).await.expect("txn");
    assert!(matches!(&r.results[0], OpResult::Got(Some(kv)) if kv.mod_revision == at));
    assert!(matches!(&r.results[1], OpResult::Put { before: Some(kv) } if kv.value == b("1")));
    assert!(matches!(&r.results[2], OpResult::Got(Some(kv)) if kv.value == b("2")));
}

pub async fn put_and_delete_of_one_key(s: Store) {
    put(&s, "a", "1").await;
    let txn = Txn {
        success: vec![
            Op::Put {
                key: b("a"),
                value: b("2"),
                lease: 0,
            },
            Op::Delete { key: b("a") },
        ],
        ..Txn::default()
    };
    assert!(matches!(s.txn(txn).await, Err(Error::DuplicateKey)));
    assert_eq!(s.get("a").await.expect("get").expect("there").value, b("1"));
}

pub async fn all_compares_must_hold(s: Store) {
    let at = put(&s, "a", "1").await;
    for (second, expected) in [
        (Compare::absent("b"), true),
        (Compare::unchanged("b", at), false),
    ] {
        let txn = Txn {
            compares: vec![Compare::unchanged("a", at), second],
            ..Txn::default()
        };
        assert_eq!(s.txn(txn).await.expect("txn").succeeded, expected);
    }
}

pub async fn delete_everything(s: Store) {
    for key in ["a", "m", "\u{10ffff}"] {
        put(&s, key, "1").await;
    }
    let op = Op::DeleteRange {
        key: Bytes::new(),
        end: Bytes::from_static(&[0]),
    };
    let txn = Txn {
        success: vec![op],
        ..Txn::default()
    };
    let r = s.txn(txn).await.expect("txn");
    assert!(matches!(&r.results[..], [OpResult::Deleted { before }] if before.len() == 3));
    let left = s.range(Range::prefix("")).await.expect("range");
    assert_eq!((left.count, left.revision), (0, r.revision));
}

pub async fn no_key(s: Store) {
    for op in [
        Op::Get { key: Bytes::new() },
        Op::Delete { key: Bytes::new() },
        Op::Put {
            key: Bytes::new(),
            value: b("1"),
            lease: 0,
        },
    ] {
        let txn = Txn {
            success: vec![op],
            ..Txn::default()
        };
        assert!(matches!(s.txn(txn).await, Err(Error::TooLarge(_))));
    }
}

pub async fn values_up_to_the_bound(s: Store) {
    // etcd counts the whole request against the bound.
    let value = Bytes::from(vec![b'x'; crate::limits::VALUE_BYTES - 4096]);
    s.create(b("a"), value.clone(), 0).await.expect("create");
    assert_eq!(s.get("a").await.expect("get").expect("there").value, value);
}
