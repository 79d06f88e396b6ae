//! What each reconciler did so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Counters of one reconciler.
#[derive(Default)]
pub struct Stats {
    name: &'static str,
    runs: AtomicU64,
    failures: AtomicU64,
    panics: AtomicU64,
    waiting: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// The counters of one reconciler at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub name: &'static str,
    pub runs: u64,
    pub failures: u64,
    pub panics: u64,
    pub waiting: u64,
    pub last_error: Option<String>,
}

/// The counters of all reconcilers of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Vec<Arc<Stats>>>>);

// === Stats ===

impl Stats {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    pub(crate) fn ran(&self, waiting: usize) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(error.to_string());
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            name: self.name,
            runs: self.runs.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
        }
    }
}

// === Board ===

impl Board {
    /// A new line of the board.
    pub fn add(&self, name: &'static str) -> Arc<Stats> {
        let stats = Arc::new(Stats::new(name));
        self.0.lock().push(stats.clone());
        stats
    }

    /// All counters now.
    pub fn numbers(&self) -> Vec<Numbers> {
        self.0.lock().iter().map(|s| s.numbers()).collect()
    }
}
