//! How long a writer waits for requests that will come, so that they share its commit. Callers that write at the same time
//! come again soon after they were answered: a commit for each few of them costs more than the wait, and makes the others
//! wait as long. Who writes alone never waits. PostgreSQL's `commit_delay` and `commit_siblings` follow the same thought.

use std::time::Duration;

use crate::limits;

/// What the last commit tells of the next one.
#[derive(Debug, Default)]
pub struct Pace {
    callers: usize,
    took: Duration,
}

impl Pace {
    /// A commit of so many requests took so long, and so many others came meanwhile.
    pub fn committed(&mut self, requests: usize, meanwhile: usize, took: Duration) {
        self.callers = requests + meanwhile;
        self.took = took;
    }

    /// How many requests are there to come, as far as is known.
    pub fn expected(&self) -> usize {
        self.callers.min(limits::GROUP_COMMIT)
    }

    /// How long they are waited for at most: as long as a commit takes, within bounds.
    pub fn patience(&self) -> Duration {
        self.took.min(limits::GROUP_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of callers that each write again once they are answered: how many share each commit.
    fn batches(mut callers: impl FnMut(usize) -> usize, rounds: usize) -> Vec<usize> {
        let (mut pace, mut there, mut sizes) = (Pace::default(), 1, Vec::new());
        for round in 0..rounds {
            let n = callers(round);
            // All of them come within a wait, and none without one.
            let batch = there.max(pace.expected().min(n));
            let meanwhile = (n - batch.min(n)).min(3);
            pace.committed(batch, meanwhile, Duration::from_millis(1));
            sizes.push(batch);
            there = meanwhile.max(1);
        }
        sizes
    }

    #[test]
    fn callers_that_write_together_come_to_share_commits() {
        let sizes = batches(|_| 16, 12);
        assert_eq!(sizes[0], 1);
        assert_eq!(sizes[11], 16, "{sizes:?}");
    }

    #[test]
    fn who_writes_alone_is_not_kept_waiting() {
        let alone = batches(|_| 1, 3);
        assert_eq!(alone, [1, 1, 1]);
        let mut pace = Pace::default();
        assert_eq!(pace.expected(), 0);
        pace.committed(16, 0, Duration::from_millis(1));
        assert_eq!(pace.expected(), 16);
        // Fifteen have gone: this costs the one that is left a single wait.
        pace.committed(1, 0, Duration::from_millis(1));
        assert_eq!(pace.expected(), 1);
    }

    #[test]
    fn patience_is_bounded() {
        let mut pace = Pace::default();
        pace.committed(2, 0, Duration::from_micros(300));
        assert_eq!(pace.patience(), Duration::from_micros(300));
        pace.committed(9_999, 0, Duration::from_secs(3));
        assert_eq!(pace.patience(), limits::GROUP_WAIT);
        assert_eq!(pace.expected(), limits::GROUP_COMMIT);
    }
}
