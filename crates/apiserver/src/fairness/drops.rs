//! When a refused client is told to come back. Upstream: flowcontrol/dropped_requests_tracker.go.

use std::collections::VecDeque;

/// Most seconds a client is told to wait.
const MOST: u64 = 32;

/// The refusals of one level, by second.
#[derive(Debug)]
pub struct Drops {
    history: VecDeque<(u64, u64)>,
    second: u64,
    count: u64,
    retry_after: u64,
    raised: u64,
}

impl Default for Drops {
    fn default() -> Self {
        Self {
            history: VecDeque::new(),
            second: 0,
            count: 0,
            retry_after: 1,
            raised: 0,
        }
    }
}

impl Drops {
    /// Counts a refusal at a Unix time; gives the seconds after which to come back.
    pub fn record(&mut self, second: u64) -> u64 {
        if second == self.second {
            self.count += 1;
            return self.retry_after;
        }
        self.history.push_back((self.second, self.count));
        let kept = (2 * self.retry_after).min(MOST);
        while (self.history.front()).is_some_and(|(at, _)| second.saturating_sub(*at) > kept) {
            self.history.pop_front();
        }
        (self.second, self.count) = (second, 1);
        self.adjust(second);
        self.retry_after
    }

    fn adjust(&mut self, second: u64) {
        let recent = |at: &u64| second.saturating_sub(*at) <= self.retry_after;
        let dropped = self.history.iter().filter(|(at, _)| recent(at));
        let dropped: u64 = dropped.map(|(_, n)| n).sum();
        let since = second.saturating_sub(self.raised);
        if since >= self.retry_after && dropped >= 3 * self.retry_after {
            self.retry_after = (self.retry_after * 2).min(MOST);
            self.raised = second;
        } else if dropped < self.retry_after && self.retry_after > 1 {
            self.retry_after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_longer_the_more_are_refused() {
        let mut drops = Drops::default();
        let mut said = Vec::new();
        for second in 100..110 {
            for _ in 0..50 {
                said.push(drops.record(second));
            }
        }
        assert_eq!(said[0], 1);
        assert_eq!(said[50], 2);
        assert_eq!(said.last(), Some(&8));
        for second in 200..220 {
            drops.record(second);
        }
        assert!(drops.record(230) < 8);
    }
}
