//! Live watchers of a backend that keeps etcd's semantics itself. The writer publishes each durable revision here; a watcher that lags too far is
//! cut off instead of growing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::{Stream, StreamExt, future};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::error::Error;
use crate::held::Held;
use crate::limits;
use crate::types::{Event, Range, WatchBatch};

/// What a watcher receives: a batch, or the revision after which it was cut off.
type Item = Result<WatchBatch, Error>;

/// The watchers and the revision they have been told.
pub struct Hub {
    revision: AtomicU64,
    compacted: AtomicU64,
    watchers: Mutex<Option<Vec<Watcher>>>,
    /// When the first lease ends.
    lease_end: watch::Sender<Option<Instant>>,
    held: Arc<Held>,
}

struct Watcher {
    range: Range,
    to: mpsc::Sender<Item>,
}

// === Hub ===

impl Hub {
    /// A hub at a revision.
    pub fn new(revision: u64, compacted: u64) -> Self {
        Self {
            revision: AtomicU64::new(revision),
            compacted: AtomicU64::new(compacted),
            watchers: Mutex::new(Some(Vec::new())),
            lease_end: watch::channel(None).0,
            held: Arc::default(),
        }
    }

    /// The answers that wait for a follower.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Notes when the first lease ends.
    pub fn set_lease_end(&self, end: Option<Instant>) {
        self.lease_end.send_if_modified(|known| {
            let changed = *known != end;
            *known = end;
            changed
        });
    }

    /// When the first lease ends, now and later.
    pub fn lease_end(&self) -> watch::Receiver<Option<Instant>> {
        self.lease_end.subscribe()
    }

    /// The newest published revision.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The revision history is compacted to.
    pub fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Notes a compaction; called before rows go.
    pub fn set_compacted(&self, revision: u64) {
        self.compacted.store(revision, Ordering::Release);
    }

    /// Registers a watcher: everything after the returned revision will come through the channel.
    pub fn subscribe(&self, range: Range) -> Result<(u64, mpsc::Receiver<Item>), Error> {
        // One place is kept free for the notice that the watcher was cut off.
        let (to, from) = mpsc::channel(limits::WATCH_BATCHES + 1);
        let mut watchers = self.watchers.lock();
        watchers
            .as_mut()
            .ok_or(Error::Closed)?
            .push(Watcher { range, to });
        // Read under the lock: `publish` moves it under the same lock.
        Ok((self.revision(), from))
    }

    /// Tells all watchers of durable batches, in order.
    pub fn publish(&self, batches: &[WatchBatch]) {
        let mut guard = self.watchers.lock();
        let Some(last) = batches.last() else { return };
        if let Some(watchers) = guard.as_mut() {
            watchers.retain(|w| batches.iter().all(|b| w.tell(b)));
        }
        self.revision.store(last.revision, Ordering::Release);
    }

    /// Tells every watcher that has room how far it is.
    pub fn request_progress(&self) {
        let guard = self.watchers.lock();
        let revision = self.revision();
        for watcher in guard.iter().flatten().filter(|w| w.to.capacity() > 1) {
            let events = Vec::new();
            // A watcher that is gone needs no notice.
            let _ = watcher.to.try_send(Ok(WatchBatch { revision, events }));
        }
    }

    /// Cuts all watchers off: what came next is gone.
    pub fn cut_off(&self) {
        let revision = self.revision();
        for watcher in self.watchers.lock().iter_mut().flat_map(|w| w.drain(..)) {
            // Room for exactly this was kept.
            let _ = watcher.to.try_send(Err(Error::Lagged { revision }));
        }
    }

    /// Ends all watchers.
    pub fn close(&self) {
        *self.watchers.lock() = None;
        self.held.release();
    }

    /// Whether the writer ended.
    pub fn is_closed(&self) -> bool {
        self.watchers.lock().is_none()
    }
}

impl Watcher {
    /// Sends what concerns this watcher; `false` when it is gone or was cut off.
    fn tell(&self, batch: &WatchBatch) -> bool {
        let events: Vec<Event> = batch
            .events
            .iter()
            .filter(|e| self.range.contains(e.key()))
            .cloned()
            .collect();
        if events.is_empty() {
            return !self.to.is_closed();
        }
        if self.to.capacity() <= 1 {
            // Room for exactly this was kept; a closed channel needs no notice.
            let _ = self.to.try_send(Err(Error::Lagged {
                revision: batch.revision - 1,
            }));
            return false;
        }
        self.to
            .try_send(Ok(WatchBatch {
                revision: batch.revision,
                events,
            }))
            .is_ok()
    }
}

/// The live part of a watch, from `start` on.
pub fn live(from: mpsc::Receiver<Item>, start: u64) -> impl Stream<Item = Item> + Send {
    let items = futures::stream::unfold(from, |mut from| async move {
        let item = from.recv().await?;
        Some((item, from))
    });
    let items = items
        .filter(move |item| future::ready(!matches!(item, Ok(batch) if batch.revision < start)));
    until_error(items)
}

/// The same stream, ending after its first error.
pub fn until_error(items: impl Stream<Item = Item> + Send) -> impl Stream<Item = Item> + Send {
    items.scan(false, |failed, item| {
        if *failed {
            return future::ready(None);
        }
        *failed = item.is_err();
        future::ready(Some(item))
    })
}
