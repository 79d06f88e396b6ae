//! Leases: lifetimes and keys.

use std::time::Duration;

use super::{b, next, put, put_leased};
use crate::{Error, Event, Range, Store};

pub async fn lease_ends(s: Store) {
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

pub async fn lease_kept(s: Store) {
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

pub async fn lease_revoked(s: Store) {
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

pub async fn lease_unknown(s: Store) {
    assert!(matches!(
        put_leased(&s, "l", "1", 99).await,
        Err(Error::LeaseNotFound)
    ));
    assert!(s.get("l").await.expect("get").is_none());
}

pub async fn lease_detached(s: Store) {
    let id = s
        .lease_grant(0, Duration::from_secs(600))
        .await
        .expect("grant");
    put_leased(&s, "l", "1", id).await.expect("put");
    put(&s, "l", "2").await;
    s.lease_revoke(id).await.expect("revoke");
    assert_eq!(s.get("l").await.expect("get").expect("there").value, b("2"));
}

pub async fn lease_info(s: Store) {
    let ttl = Duration::from_secs(600);
    let id = s.lease_grant(0, ttl).await.expect("grant");
    let none = s.lease_time_to_live(id).await.expect("info");
    assert_eq!((none.granted, none.keys.len()), (ttl, 0));
    put_leased(&s, "l2", "1", id).await.expect("put");
    put_leased(&s, "l1", "1", id).await.expect("put");
    put_leased(&s, "l0", "1", id).await.expect("put");
    put(&s, "l0", "2").await;
    let some = s.lease_time_to_live(id).await.expect("info");
    assert_eq!(some.keys, ["l1", "l2"]);
    assert!(some.left <= ttl && some.left > ttl / 2, "{:?}", some.left);
    s.lease_revoke(id).await.expect("revoke");
    assert!(matches!(
        s.lease_time_to_live(id).await,
        Err(Error::LeaseNotFound)
    ));
}

pub async fn lease_one_revision(s: Store) {
    let ttl = Duration::from_secs(600);
    let id = s.lease_grant(0, ttl).await.expect("grant");
    let mut last = 0;
    for key in ["l1", "l2", "l3"] {
        last = put_leased(&s, key, "1", id).await.expect("put");
    }
    let mut w = s.watch(Range::prefix("l"), last + 1).await.expect("watch");
    s.lease_revoke(id).await.expect("revoke");
    let batch = next(&mut w).await.expect("batch");
    assert_eq!((batch.revision, batch.events.len()), (last + 1, 3));
}
