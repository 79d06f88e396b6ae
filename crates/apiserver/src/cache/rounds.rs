//! When the network watchers of a cache are told of changes. A round wakes all of them: what comes while it would still be
//! under way waits for the next one, so that many watchers take several changes at a time and few are told at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::WatchCache;
use crate::limits;

/// The caches whose next round has not begun yet.
#[derive(Default)]
pub(super) struct Rounds(Vec<(Instant, Arc<WatchCache>)>);

/// How long after the last round the next one may begin, with so many watchers.
fn pause(watchers: usize) -> Duration {
    let watchers = u32::try_from(watchers).unwrap_or(u32::MAX);
    let whole = limits::WATCHER_TOLD.saturating_mul(watchers);
    // Shorter times are not worth a timer, which does not know them either.
    match whole < limits::ROUND_MIN {
        true => Duration::ZERO,
        false => whole.min(limits::ROUND_MAX),
    }
}

impl Rounds {
    /// Tells a cache's watchers, or puts that off.
    pub fn tell(&mut self, cache: &Arc<WatchCache>, now: Instant) {
        if self.0.iter().any(|(_, c)| Arc::ptr_eq(c, cache)) {
            return;
        }
        let last = cache.told.lock();
        let next = last.map(|at| at + pause(cache.news.receiver_count()));
        drop(last);
        match next {
            Some(next) if next > now => self.0.push((next, cache.clone())),
            _ => begin(cache, now),
        }
    }

    /// Begins the rounds whose time has come.
    pub fn begin(&mut self, now: Instant) {
        for (_, cache) in self.0.extract_if(.., |(at, _)| *at <= now) {
            begin(&cache, now);
        }
    }

    /// Waits until there is one to begin.
    pub async fn due(&self) {
        match self.0.iter().map(|(at, _)| *at).min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

fn begin(cache: &WatchCache, now: Instant) {
    *cache.told.lock() = Some(now);
    cache.announce();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_at_once_and_many_are_not_kept_waiting_for_long() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(20), Duration::ZERO);
        assert_eq!(pause(300), limits::WATCHER_TOLD * 300);
        assert_eq!(pause(1_000_000), limits::ROUND_MAX);
        assert_eq!(pause(usize::MAX), limits::ROUND_MAX);
    }
}
