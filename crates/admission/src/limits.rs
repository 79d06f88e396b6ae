//! Every bound of this crate.

use std::time::Duration;

/// How long a create waits for a namespace that may only be late in the cache (upstream: 50 ms).
pub const NAMESPACE_WAIT: Duration = Duration::from_millis(50);
/// Looks for the account `default` of a young namespace (upstream: 10).
pub const DEFAULT_ACCOUNT_TRIES: u32 = 10;
/// Time between two of them (upstream: 100 to 199 ms).
pub const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_millis(100);
/// Writes of a quota's status tried on conflict (upstream: 3 retries).
pub const QUOTA_TRIES: u32 = 4;
/// Longest wait for a quota's turn and its status write.
pub const QUOTA_TIMEOUT: Duration = Duration::from_secs(10);
/// Own status writes remembered until the cache shows them; when full, forgotten.
pub const QUOTA_OWN_WRITES_MAX: usize = 10_000;
/// Pods looked at when a namespace gets a stricter level.
pub const PODS_CHECKED_MAX: usize = 3000;
/// Bytes of a webhook's answer. Upstream reads any length; a patch that replaces the largest object, in base64, fits.
pub const REVIEW_BYTES: usize = 8 << 20;
/// Longest value of a policy's audit annotation.
pub const ANNOTATION_BYTES_MAX: usize = 10 * 1024;
/// Most failures that one request's audit annotation tells of.
pub const AUDITED_FAILURES_MAX: usize = 50;
