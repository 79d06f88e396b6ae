//! The queue of keys: each at most once in it, never worked on twice at once, late ones in order of
//! their time. A value without tasks or clock; `run` drives it. Upstream: workqueue.Type,
//! DelayingInterface, ItemExponentialFailureRateLimiter.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::Key;
use crate::limits;

/// How the delay of a failing key grows: doubled each time.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

/// Keys to be reconciled.
pub struct Queue {
    backoff: Backoff,
    ready: VecDeque<Key>,
    /// Keys in `ready`, and running ones that must run again.
    dirty: HashSet<Key>,
    running: HashSet<Key>,
    delayed: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

// === Backoff ===

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: limits::BACKOFF_BASE,
            max: limits::BACKOFF_MAX,
        }
    }
}

impl Backoff {
    /// The delay after `failures` failures before this one.
    pub fn delay(&self, failures: u32) -> Duration {
        let factor = 2u32.checked_pow(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

// === Queue ===

impl Queue {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            running: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Queues a key unless it waits already; a running key runs again afterwards.
    pub fn add(&mut self, key: Key) {
        if !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Queues a key at a time; of several times the earliest counts.
    pub fn add_at(&mut self, key: Key, at: Instant) {
        if let Some(known) = self.due.get(&key).copied() {
            if known <= at {
                return;
            }
            self.delayed.remove(&(known, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    /// Queues a key that failed; gives how often it failed, this time included, and its delay.
    pub fn add_failed(&mut self, key: Key, now: Instant) -> (u32, Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = self.backoff.delay(*failures);
        *failures = failures.saturating_add(1);
        let failures = *failures;
        self.add_at(key, now + delay);
        (failures, delay)
    }

    /// Ends the failure history of a key.
    pub fn forget(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// How often a key failed in a row.
    pub fn failures(&self, key: &Key) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }

    /// The next key whose time has come; it counts as running until `done`.
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        while let Some((at, _)) = self.delayed.first()
            && *at <= now
        {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// Ends a run.
    pub fn done(&mut self, key: &Key) {
        self.running.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// When the earliest late key is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// Keys that wait, late ones included.
    pub fn len(&self) -> usize {
        self.ready.len() + self.delayed.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("d", name)
    }

    #[test]
    fn a_key_waits_once_and_runs_again_when_it_changed_meanwhile() {
        let now = Instant::now();
        let mut q = Queue::new(Backoff::default());
        q.add(key("a"));
        q.add(key("a"));
        assert_eq!(q.take(now), Some(key("a")));
        assert_eq!(q.take(now), None);
        q.add(key("a"));
        assert_eq!(q.take(now), None, "never twice at once");
        q.done(&key("a"));
        assert_eq!(q.take(now), Some(key("a")));
        q.done(&key("a"));
        assert!(q.is_empty());
    }

    #[test]
    fn late_keys_come_in_time_and_the_earliest_time_counts() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let mut q = Queue::new(Backoff::default());
        q.add_at(key("a"), now + s(5));
        q.add_at(key("b"), now + s(3));
        q.add_at(key("a"), now + s(1));
        q.add_at(key("a"), now + s(9));
        assert_eq!(q.take(now), None);
        assert_eq!(q.next_due(), Some(now + s(1)));
        assert_eq!(q.take(now + s(4)), Some(key("a")));
        assert_eq!(q.take(now + s(4)), Some(key("b")));
        assert_eq!(q.next_due(), None);
    }

    #[test]
    fn failures_double_the_delay_up_to_the_limit_until_forgotten() {
        let now = Instant::now();
        let mut q = Queue::new(Backoff::default());
        let mut delays = Vec::new();
        for _ in 0..20 {
            delays.push(q.add_failed(key("a"), now).1.as_millis());
            q.take(now + limits::BACKOFF_MAX);
            q.done(&key("a"));
        }
        assert_eq!(delays[..4], [5, 10, 20, 40]);
        assert_eq!(delays[18..], [1_000_000, 1_000_000]);
        q.forget(&key("a"));
        assert_eq!(q.add_failed(key("a"), now).1, limits::BACKOFF_BASE);
    }
}
