//! Many writers at once.

use super::b;
use crate::{Range, Store, WriteError};

pub async fn one_wins(s: Store) {
    let at = s.create(b("a"), b("0"), 0).await.expect("create");
    let tries = (0..16).map(|i| {
        let s = s.clone();
        tokio::spawn(async move { s.update(b("a"), b(&i.to_string()), at, 0).await.is_ok() })
    });
    let won = futures::future::join_all(tries).await;
    assert_eq!(won.into_iter().filter(|r| matches!(r, Ok(true))).count(), 1);
}

pub async fn counters(s: Store) {
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

pub async fn creates_of_one_key(s: Store) {
    let tries = (0..16).map(|i| {
        let s = s.clone();
        tokio::spawn(async move { s.create(b("a"), b(&i.to_string()), 0).await })
    });
    let mut won = Vec::new();
    for done in futures::future::join_all(tries).await {
        match done.expect("task") {
            Ok(at) => won.push(at),
            Err(WriteError::Conflict(Some(_))) => {}
            Err(e) => panic!("{e}"),
        }
    }
    let kv = s.get("a").await.expect("get").expect("there");
    assert_eq!(won, [kv.mod_revision]);
}

pub async fn acknowledged_is_visible(s: Store) {
    let writers = (0..8).map(|w| {
        let s = s.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let key = format!("v/{w}/{i}");
                let at = s.create(b(&key), b("1"), 0).await.expect("create");
                assert!(s.revision().await.expect("revision") >= at);
                let range = s.range(Range::prefix("v/")).await.expect("range");
                assert!(range.revision >= at);
                assert!(
                    range
                        .kvs
                        .iter()
                        .any(|kv| kv.key == key && kv.mod_revision == at)
                );
            }
        })
    });
    for done in futures::future::join_all(writers).await {
        done.expect("writer");
    }
    assert_eq!(
        s.range(Range::prefix("v/")).await.expect("range").count,
        160
    );
}

pub async fn revisions_are_unique(s: Store) {
    let writers = (0..16).map(|w| {
        let s = s.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..10 {
                mine.push(super::put(&s, &format!("u/{w}"), "1").await);
            }
            mine
        })
    });
    let mut all = Vec::new();
    for done in futures::future::join_all(writers).await {
        let mine = done.expect("writer");
        assert!(mine.is_sorted());
        all.extend(mine);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 160);
    let first = all[0];
    assert_eq!(all[159], first + 159, "no revision without a change");
}
