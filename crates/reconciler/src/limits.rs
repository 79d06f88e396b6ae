//! Bounds of this crate.

use std::time::Duration;

/// First and longest delay of a failing key: upstream's ItemExponentialFailureRateLimiter.
pub const BACKOFF_BASE: Duration = Duration::from_millis(5);
pub const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// Pause before a closed subscription is opened again.
pub const RESUBSCRIBE: Duration = Duration::from_millis(50);
