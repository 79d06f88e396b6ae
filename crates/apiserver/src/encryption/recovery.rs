//! Values that could not be opened because a KMS plug-in was not well: when it is, whoever remembers that they are
//! unreadable is told to look again, less and less often where that did not help.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Most signs of health that are let pass between two tries.
const PAUSE: u32 = 60;

/// Cheap to note into.
#[derive(Default)]
pub struct Recovery {
    failed: AtomicU64,
    pause: Mutex<Pause>,
    tell: watch::Sender<u64>,
}

#[derive(Default)]
struct Pause {
    next: u32,
    left: u32,
}

impl Recovery {
    /// A value could not be opened.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A plug-in is well.
    pub fn well(&self) {
        let mut pause = self.pause.lock();
        if self.failed.load(Ordering::Relaxed) == 0 {
            *pause = Pause::default();
            return;
        }
        if pause.left > 0 {
            pause.left -= 1;
            return;
        }
        pause.next = (pause.next * 2 + 1).min(PAUSE);
        pause.left = pause.next;
        drop(pause);
        self.again();
    }

    /// Everything is to be opened again now.
    pub fn again(&self) {
        self.failed.store(0, Ordering::Relaxed);
        self.tell.send_modify(|n| *n += 1);
    }

    /// Whether a value could not be opened since.
    pub fn any_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    /// Tells when values should be opened again.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.tell.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_help_is_tried_less_often() {
        let recovery = Recovery::default();
        let mut told = recovery.told();
        recovery.well();
        assert!(!told.has_changed().unwrap());
        let mut tries = Vec::new();
        for i in 0..20 {
            recovery.failed();
            recovery.well();
            if told.has_changed().unwrap() {
                told.mark_unchanged();
                tries.push(i);
            }
        }
        assert_eq!(tries, [0, 2, 6, 14]);
        recovery.again();
        recovery.well();
        recovery.failed();
        told.mark_unchanged();
        recovery.well();
        assert!(told.has_changed().unwrap());
    }
}
