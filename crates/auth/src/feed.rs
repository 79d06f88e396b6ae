//! Follows one shared cache without a task of its own: whoever needs the index first applies the
//! changes that are waiting. The index is then never older than the cache, and idle costs nothing.

use std::sync::Arc;

use client::{Change, Entry, Reads};
use machinery::GroupResource;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

/// What to do to the index.
pub enum Step<'a> {
    /// Forget everything and begin with these.
    Reset(&'a [Arc<Entry>]),
    Change(&'a Change),
}

/// The waiting changes of one cache.
pub struct Feed {
    resource: GroupResource,
    changes: Option<Receiver<Change>>,
}

// === Feed ===

impl Feed {
    /// A feed of `group`/`resource`; subscribes at the first `poll`.
    pub fn new(group: &'static str, resource: &'static str) -> Self {
        Self {
            resource: GroupResource::new(group, resource),
            changes: None,
        }
    }

    /// Applies what waits. A resource that is not served is empty.
    pub fn poll(&mut self, reads: &dyn Reads, mut apply: impl FnMut(Step<'_>)) {
        // A subscription that ends again at once (the server is stopping) is tried once a poll.
        let mut subscribed = false;
        loop {
            let Some(changes) = &mut self.changes else {
                let Some(cache) = reads.cache(&self.resource).filter(|_| !subscribed) else {
                    return;
                };
                subscribed = true;
                let subscription = cache.subscribe();
                apply(Step::Reset(&subscription.snapshot));
                self.changes = Some(subscription.changes);
                continue;
            };
            match changes.try_recv() {
                Ok(change) => apply(Step::Change(&change)),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // We lagged, or the resource is gone: begin again with what there is now.
                    self.changes = None;
                    if reads.cache(&self.resource).is_none() {
                        apply(Step::Reset(&[]));
                        return;
                    }
                }
            }
        }
    }
}
