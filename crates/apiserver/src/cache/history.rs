//! Watches that begin before what a cache remembers, as they do after a restart of the server: the store's
//! history is replayed until the cache can go on, without gap or duplicate.
// Upstream: its watch cache answers 410 there, and clients list anew. Here 410 means compacted.

use std::sync::Arc;

use client::{Change, ChangeKind};
use futures::StreamExt;
use store::{Event, KeyValue, Range, Store, WatchStream};

use super::follow::{Bad, make};
use super::{Begun, CacheEvent, Start, WatchCache, with_revision};
use crate::limits;

/// A resource's changes after a revision, out of the store's history.
pub struct History {
    store: Store,
    cache: Arc<WatchCache>,
    stream: WatchStream,
    /// Everything up to here has been given.
    after: u64,
}

/// What comes next.
pub enum Step {
    /// The changes of one revision.
    Changes(Vec<CacheEvent>),
    /// The cache has the rest.
    Joined(Begun),
}

/// Why history ends before the cache goes on.
#[derive(Debug)]
pub enum Broken {
    /// It is compacted up to this revision.
    Compacted(u64),
    /// The client may try again from where it is.
    Passing(String),
}

impl From<store::Error> for Broken {
    fn from(e: store::Error) -> Self {
        match e {
            store::Error::Compacted { compact_revision } => Self::Compacted(compact_revision),
            other => Self::Passing(other.to_string()),
        }
    }
}

// === History ===

impl History {
    /// Opens the history after a revision.
    pub async fn open(store: Store, cache: Arc<WatchCache>, after: u64) -> Result<Self, Broken> {
        let range = Range::prefix(cache.prefix.clone());
        let stream = store.watch(range, after + 1).await?;
        store.request_progress().await?;
        Ok(Self {
            store,
            cache,
            stream,
            after,
        })
    }

    /// The next changes, or the cache's part as soon as it remembers all that has not been given.
    pub async fn next(&mut self) -> Result<Step, Broken> {
        loop {
            if let Ok(begun) = self.cache.begin(Start::After(self.after)) {
                return Ok(Step::Joined(begun));
            }
            // Where nothing more happened to the resource, only a notice tells how far the history went.
            let waited = tokio::time::timeout(limits::PROGRESS_EVERY, self.stream.next()).await;
            let Ok(item) = waited else {
                self.store.request_progress().await?;
                continue;
            };
            let batch = item.ok_or_else(|| Broken::Passing("the store is closed".into()))??;
            self.after = self.after.max(batch.revision);
            let mut changes = Vec::with_capacity(batch.events.len());
            for event in batch.events {
                match change(&self.cache, event) {
                    Ok(Some(change)) => changes.push(CacheEvent::new(change, batch.revision)),
                    Ok(None) => return Err(Broken::Compacted(batch.revision)),
                    Err((key, error)) => {
                        tracing::error!(key, %error, "stored object does not parse and is left out");
                    }
                }
            }
            if !changes.is_empty() {
                return Ok(Step::Changes(changes));
            }
        }
    }
}

/// A stored event as a change; nothing where what was before is needed and compacted away.
fn change(cache: &WatchCache, event: Event) -> Result<Option<Change>, Bad> {
    let entry = |kv: &KeyValue, revision: u64| {
        make(cache, &kv.key, with_revision(&kv.value, revision), revision).map(Arc::new)
    };
    let before = |before: Option<KeyValue>| {
        before
            .as_ref()
            .map(|kv| entry(kv, kv.mod_revision))
            .transpose()
    };
    Ok(match event {
        Event::Put { kv, .. } if kv.version == 1 => Some(Change {
            kind: ChangeKind::Added,
            entry: entry(&kv, kv.mod_revision)?,
            before: None,
        }),
        Event::Put { kv, before: was } => match before(was)? {
            None => None,
            Some(was) => Some(Change {
                kind: ChangeKind::Modified,
                entry: entry(&kv, kv.mod_revision)?,
                before: Some(was),
            }),
        },
        Event::Delete { before: None, .. } => None,
        Event::Delete {
            revision,
            before: Some(was),
            ..
        } => Some(Change {
            kind: ChangeKind::Deleted,
            entry: entry(&was, revision)?,
            before: before(Some(was))?,
        }),
    })
}
