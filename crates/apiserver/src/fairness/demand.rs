//! How many seats a level could use, over time. Upstream: fairqueuing/integrator.go.

use std::time::Duration;

/// The running integral of a number.
pub struct Demand {
    since: Duration,
    last: Duration,
    value: f64,
    area: f64,
    squares: f64,
    high: f64,
}

/// What was seen in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    pub average: f64,
    pub deviation: f64,
    pub high: f64,
}

impl Demand {
    /// Nothing, from now on.
    pub fn new(now: Duration) -> Self {
        Self {
            since: now,
            last: now,
            value: 0.0,
            area: 0.0,
            squares: 0.0,
            high: 0.0,
        }
    }

    /// From now on it is this number.
    pub fn set(&mut self, now: Duration, value: f64) {
        self.advance(now);
        self.value = value;
        self.high = self.high.max(value);
    }

    /// What was seen since the last call.
    pub fn take(&mut self, now: Duration) -> Seen {
        self.advance(now);
        let period = self.last.saturating_sub(self.since).as_secs_f64();
        let seen = if period > 0.0 {
            let average = self.area / period;
            let variance = (self.squares / period - average * average).max(0.0);
            Seen {
                average,
                deviation: variance.sqrt(),
                high: self.high,
            }
        } else {
            Seen {
                average: self.value,
                deviation: 0.0,
                high: self.high,
            }
        };
        (self.since, self.area, self.squares) = (self.last, 0.0, 0.0);
        self.high = self.value;
        seen
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.area += self.value * passed;
        self.squares += self.value * self.value * passed;
    }
}
