//! The newest changes of a resource, and the network watchers that follow them. A watcher has no queue: it knows how far
//! it is, takes what came since in one go, and is cut off when it falls behind what is remembered.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::{CacheEvent, WatchCache};
use crate::limits;

/// The newest changes, oldest first, numbered without a gap.
#[derive(Default)]
pub(super) struct Ring {
    events: VecDeque<Arc<CacheEvent>>,
    /// The number of the next one.
    next: u64,
    /// Changes up to and including this revision have left.
    pub forgotten: u64,
    closed: bool,
}

/// The watcher lagged too far, or the resource is gone.
#[derive(Debug)]
pub struct CutOff;

/// A watcher's place among the changes of a cache.
pub struct Live {
    cache: Arc<WatchCache>,
    next: u64,
    news: watch::Receiver<()>,
    taken: VecDeque<Arc<CacheEvent>>,
}

// === Ring ===

impl Ring {
    pub fn push(&mut self, event: Arc<CacheEvent>) {
        self.next += 1;
        self.events.push_back(event);
        if self.events.len() > limits::RING_EVENTS
            && let Some(oldest) = self.events.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }

    /// Cuts off all watchers and remembers nothing up to a revision.
    pub fn forget(&mut self, revision: u64) {
        self.events.clear();
        // Nobody's next event is the one of this number.
        self.next += 1;
        self.forgotten = revision;
    }

    /// Cuts off all watchers, those to come as well.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What came after a revision that is not forgotten.
    pub fn later(&self, revision: u64) -> Vec<Arc<CacheEvent>> {
        let later = self.events.iter().filter(|e| e.revision > revision);
        later.cloned().collect()
    }

    /// Events from a number on, so many at most.
    fn from(
        &self,
        number: u64,
        most: usize,
    ) -> Result<impl Iterator<Item = &Arc<CacheEvent>>, CutOff> {
        let missing = self.next.saturating_sub(number) as usize;
        match self.events.len().checked_sub(missing) {
            Some(skipped) if !self.closed => Ok(self.events.range(skipped..).take(most)),
            _ => Err(CutOff),
        }
    }
}

// === Live ===

impl Live {
    /// Follows a cache from an event's number on.
    pub(super) fn new(cache: Arc<WatchCache>, next: u64) -> Self {
        Self {
            news: cache.news.subscribe(),
            cache,
            next,
            taken: VecDeque::new(),
        }
    }

    /// The next event, if it is there.
    pub fn try_next(&mut self) -> Result<Option<Arc<CacheEvent>>, CutOff> {
        if self.taken.is_empty() {
            let state = self.cache.state.read();
            let new = state.ring.from(self.next, limits::WATCHER_EVENTS)?;
            self.taken.extend(new.cloned());
            self.next += self.taken.len() as u64;
        }
        Ok(self.taken.pop_front())
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Arc<CacheEvent>, CutOff> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // Its sender lives in the cache.
            self.news.changed().await.map_err(|_| CutOff)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::{Change, ChangeKind, Entry};

    use super::super::CacheEvent;
    use super::Ring;
    use crate::limits;

    fn event(revision: u64) -> Arc<CacheEvent> {
        let object = r#"{"metadata":{"name":"a"}}"#;
        let entry = Entry::new(object.into(), revision, Vec::new()).expect("an object");
        let change = Change {
            kind: ChangeKind::Added,
            entry: Arc::new(entry),
            before: None,
        };
        Arc::new(CacheEvent::new(change, revision))
    }

    fn revisions(ring: &Ring, number: u64, most: usize) -> Option<Vec<u64>> {
        let events = ring.from(number, most).ok()?;
        Some(events.map(|e| e.revision).collect())
    }

    #[test]
    fn watchers_take_what_came_since_or_are_cut_off() {
        let mut ring = Ring::default();
        for revision in 1..=4 {
            ring.push(event(revision));
        }
        assert_eq!(revisions(&ring, 4, 9), Some(vec![]));
        assert_eq!(revisions(&ring, 1, 2), Some(vec![2, 3]));
        assert_eq!(ring.later(2).len(), 2);
        for revision in 5..=limits::RING_EVENTS as u64 + 1 {
            ring.push(event(revision));
        }
        assert_eq!(ring.forgotten, 1);
        assert_eq!(revisions(&ring, 1, 1), Some(vec![2]));
        assert_eq!(revisions(&ring, 0, 1), None, "the first has left");
    }

    #[test]
    fn who_followed_what_is_forgotten_or_closed_is_cut_off() {
        let mut ring = Ring::default();
        ring.push(event(1));
        let follows = ring.next();
        ring.forget(7);
        assert_eq!(revisions(&ring, follows, 9), None);
        let follows = ring.next();
        ring.push(event(8));
        assert_eq!(revisions(&ring, follows, 9), Some(vec![8]));
        ring.close();
        assert_eq!(revisions(&ring, follows, 9), None);
    }
}
