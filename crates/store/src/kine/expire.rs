//! Ends leases: ours by the database's clock, whichever server granted them, and kine's by how long this process
//! has seen their keys, as kine does itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::shared::Shared;
use super::sql;
use crate::error::Error;
use crate::limits;
use crate::types::{Compare, Op, Txn};
use crate::work::Work;

/// Looks for what has ended as long as the store is there.
pub async fn run(shared: Arc<Shared>, work: mpsc::WeakSender<Work>) {
    loop {
        let next = match shared
            .read("leases", |s, d| sql::lease_end(s, d).boxed())
            .await
        {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "the ends of leases are not known");
                None
            }
        };
        let mut wait = next.map_or(limits::SQL_LEASES, |ms| {
            Duration::from_millis(ms.max(0).unsigned_abs()).min(limits::SQL_LEASES)
        });
        if let Some(((ends, _), _)) = shared.mortal.lock().first_key_value() {
            wait = wait.min(ends.saturating_duration_since(Instant::now()));
        }
        if !wait.is_zero() {
            tokio::select! {
                () = shared.leases.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        let Some(work) = work.upgrade() else { return };
        if next.is_some_and(|ms| ms <= 0) && work.send(Work::Tick).await.is_err() {
            return;
        }
        if end_keys(&shared, &work).await.is_err() {
            return;
        }
        drop(work);
        // Leases that end one shortly after the other go together.
        if next.is_some_and(|ms| ms <= 0) {
            tokio::time::sleep(limits::LEASE_TICK).await;
        }
    }
}

/// Deletes keys whose time is up, if they are what they were.
async fn end_keys(shared: &Shared, work: &mpsc::Sender<Work>) -> Result<(), Error> {
    while let Some((revision, key)) = due(shared) {
        let txn = Txn {
            compares: vec![Compare::unchanged(key.clone(), revision)],
            success: vec![Op::Delete { key: key.clone() }],
            failure: Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        let sent = work.send(Work::Txn(txn, reply)).await;
        sent.map_err(|_| Error::Closed)?;
        if let Err(error) = answer.await.map_err(|_| Error::Closed)? {
            tracing::warn!(%error, "a key whose time is up cannot be deleted yet");
            let again = Instant::now() + limits::SQL_LEASES;
            shared.mortal.lock().insert((again, revision), key);
        }
    }
    Ok(())
}

fn due(shared: &Shared) -> Option<(u64, Bytes)> {
    let mut mortal = shared.mortal.lock();
    let first = mortal
        .first_entry()
        .filter(|e| e.key().0 <= Instant::now())?;
    let ((_, revision), key) = first.remove_entry();
    Some((revision, key))
}
