//! How long a Job waits after failures. Upstream: pkg/controller/job/backoff_utils.go.

use std::time::Duration;

use api::core::v1::Pod;
use jiff::Timestamp;

use super::plan::Tally;
use crate::common::object::Object;
use crate::common::pods;

/// The first delay, and the longest.
const BASE: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);

/// Failures in a row.
#[derive(Clone, Debug, Default)]
pub struct Record {
    failures: u32,
    last_failure: Option<Timestamp>,
}

/// When a pod ended.
pub fn finish_time(pod: &Pod) -> Timestamp {
    let statuses = pod.status.iter().flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        init.chain(s.container_statuses.iter().flatten())
    });
    let ended = statuses.filter_map(|c| {
        let t = c.state.as_ref()?.terminated.as_ref()?;
        t.finished_at.as_ref().map(|t| t.0)
    });
    if let Some(latest) = ended.max() {
        return latest;
    }
    let unready = pods::condition(pod, "Ready").filter(|c| c.status == "False");
    if let Some(t) = unready.and_then(|c| c.last_transition_time.as_ref()) {
        return t.0;
    }
    match &pod.metadata.deletion_timestamp {
        Some(t) => {
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            Timestamp::from_second(t.0.as_second() - grace).unwrap_or(t.0)
        }
        None => pod.created(),
    }
}

/// How long to wait still after `failures` in a row, the last of them then.
pub fn left(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    if failures == 0 {
        return None;
    }
    let factor = 2u32.checked_pow(failures - 1).unwrap_or(u32::MAX);
    let delay = BASE.saturating_mul(factor).min(MAX);
    let passed = now.as_nanosecond() - last.as_nanosecond();
    let passed = Duration::from_nanos(u64::try_from(passed).unwrap_or(0));
    delay.checked_sub(passed).filter(|d| !d.is_zero())
}

// === Record ===

impl Record {
    /// The record with pods that have just ended.
    pub fn with(&self, t: &Tally) -> Self {
        let mut failed: Vec<Timestamp> = t.new_failed.iter().map(|p| finish_time(p)).collect();
        failed.sort_unstable();
        let success = t.new_succeeded.iter().map(|p| finish_time(p)).max();
        let mut new = match success {
            None => self.clone(),
            Some(_) => Self::default(),
        };
        for at in failed {
            if success.is_none_or(|s| at > s) {
                new.failures += 1;
                new.last_failure = new.last_failure.max(Some(at));
            }
        }
        new
    }

    /// How long to wait before another pod.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        left(self.failures, self.last_failure?, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_minutes() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(left(0, at(0), at(0)), None);
        assert_eq!(left(1, at(0), at(0)), Some(BASE));
        assert_eq!(left(2, at(0), at(5)), Some(Duration::from_secs(15)));
        assert_eq!(left(30, at(0), at(0)), Some(MAX));
        assert_eq!(left(1, at(0), at(10)), None);
    }
}
