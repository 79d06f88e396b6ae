//! The suite that every backend passes. Public, so that each backend's tests run the same cases:
//! `run(make)` calls `make` once a case for an empty store and names the case that fails.

mod compact;
mod concurrent;
mod lease;
mod range;
mod txn;
mod watch;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::{Error, Op, Store, Txn, WatchBatch, WatchStream};

/// How long a case waits for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

type Case = (&'static str, fn(Store) -> BoxFuture<'static, ()>);

/// Every case by name.
pub const CASES: &[Case] = &[
    ("create_then_get", |s| Box::pin(txn::create_then_get(s))),
    ("create_of_an_existing_key_conflicts", |s| {
        Box::pin(txn::create_existing(s))
    }),
    ("update_needs_the_expected_revision", |s| {
        Box::pin(txn::update_expected(s))
    }),
    ("delete_needs_the_expected_revision", |s| {
        Box::pin(txn::delete_expected(s))
    }),
    ("versions_count_and_start_anew_after_a_delete", |s| {
        Box::pin(txn::versions(s))
    }),
    ("a_transaction_has_one_revision", |s| {
        Box::pin(txn::one_revision(s))
    }),
    ("a_transaction_without_effect_has_none", |s| {
        Box::pin(txn::no_effect(s))
    }),
    ("compares_of_every_kind", |s| Box::pin(txn::compares(s))),
    ("failure_operations_run_when_a_compare_fails", |s| {
        Box::pin(txn::failure_ops(s))
    }),
    ("duplicate_keys_are_refused", |s| {
        Box::pin(txn::duplicates(s))
    }),
    ("too_large_is_refused", |s| Box::pin(txn::too_large(s))),
    ("ranges_are_ordered_and_limited", |s| {
        Box::pin(range::ranges(s))
    }),
    ("a_range_of_an_old_revision_sees_the_past", |s| {
        Box::pin(range::old_range(s))
    }),
    ("a_range_of_a_future_revision_fails", |s| {
        Box::pin(range::future_range(s))
    }),
    ("prefixes_with_high_bytes", |s| {
        Box::pin(range::high_bytes(s))
    }),
    ("values_of_any_bytes", |s| Box::pin(txn::any_bytes(s))),
    ("range_deletes", |s| Box::pin(txn::range_deletes(s))),
    ("a_watch_sees_what_comes", |s| {
        Box::pin(watch::watch_live(s))
    }),
    ("a_watch_from_the_past_has_no_gap", |s| {
        Box::pin(watch::watch_past(s))
    }),
    ("a_watch_sees_only_its_range", |s| {
        Box::pin(watch::watch_range(s))
    }),
    ("a_watch_gives_what_was_before", |s| {
        Box::pin(watch::watch_before(s))
    }),
    ("a_watch_groups_a_revision", |s| {
        Box::pin(watch::watch_groups(s))
    }),
    ("watches_under_load_see_everything_once", |s| {
        Box::pin(watch::watch_load(s))
    }),
    ("compaction_takes_the_past", |s| {
        Box::pin(compact::compaction(s))
    }),
    ("a_watch_of_the_compacted_past_fails", |s| {
        Box::pin(compact::compacted_watch(s))
    }),
    ("a_deleted_key_stays_deleted_after_compaction", |s| {
        Box::pin(compact::compacted_delete(s))
    }),
    ("leases_end_and_take_their_keys", |s| {
        Box::pin(lease::lease_ends(s))
    }),
    ("a_kept_lease_lives", |s| Box::pin(lease::lease_kept(s))),
    ("a_revoked_lease_takes_its_keys_at_once", |s| {
        Box::pin(lease::lease_revoked(s))
    }),
    ("an_unknown_lease_is_refused", |s| {
        Box::pin(lease::lease_unknown(s))
    }),
    ("a_put_without_the_lease_detaches_the_key", |s| {
        Box::pin(lease::lease_detached(s))
    }),
    ("one_of_many_writers_wins", |s| {
        Box::pin(concurrent::one_wins(s))
    }),
    ("counters_lose_no_increment", |s| {
        Box::pin(concurrent::counters(s))
    }),
    ("a_get_sees_the_transactions_own_writes", |s| {
        Box::pin(txn::get_sees_own_writes(s))
    }),
    ("put_and_delete_of_one_key_are_refused", |s| {
        Box::pin(txn::put_and_delete_of_one_key(s))
    }),
    ("all_compares_must_hold", |s| {
        Box::pin(txn::all_compares_must_hold(s))
    }),
    ("a_range_delete_of_everything", |s| {
        Box::pin(txn::delete_everything(s))
    }),
    ("an_empty_key_is_refused", |s| Box::pin(txn::no_key(s))),
    ("values_up_to_the_bound", |s| {
        Box::pin(txn::values_up_to_the_bound(s))
    }),
    ("a_range_of_everything", |s| Box::pin(range::everything(s))),
    ("ranges_of_nothing", |s| Box::pin(range::empty(s))),
    ("pages_of_one_revision_see_one_state", |s| {
        Box::pin(range::pages_of_one_revision(s))
    }),
    ("a_watch_of_the_future_waits", |s| {
        Box::pin(watch::watch_future(s))
    }),
    ("a_watch_tells_its_progress", |s| {
        Box::pin(watch::watch_progress(s))
    }),
    ("many_watches_at_once", |s| Box::pin(watch::watch_many(s))),
    ("a_watch_from_the_long_past", |s| {
        Box::pin(watch::watch_long_past(s))
    }),
    ("a_watch_gives_keys_as_a_get_does", |s| {
        Box::pin(watch::watch_put_data(s))
    }),
    ("the_compacted_revision_can_be_watched", |s| {
        Box::pin(compact::edge(s))
    }),
    ("compacted_errors_name_the_revision", |s| {
        Box::pin(compact::names_the_revision(s))
    }),
    ("compaction_under_load_loses_nothing", |s| {
        Box::pin(compact::under_load(s))
    }),
    ("compaction_again_and_again", |s| {
        Box::pin(compact::again_and_again(s))
    }),
    ("a_lease_tells_its_time_and_keys", |s| {
        Box::pin(lease::lease_info(s))
    }),
    ("a_lease_takes_its_keys_in_one_revision", |s| {
        Box::pin(lease::lease_one_revision(s))
    }),
    ("one_of_many_creates_wins", |s| {
        Box::pin(concurrent::creates_of_one_key(s))
    }),
    ("acknowledged_is_visible", |s| {
        Box::pin(concurrent::acknowledged_is_visible(s))
    }),
    ("every_change_has_its_revision", |s| {
        Box::pin(concurrent::revisions_are_unique(s))
    }),
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
