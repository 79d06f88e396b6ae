//! Times as the API writes them.

use jiff::Timestamp;

/// RFC 3339 in whole seconds, as metav1.Time.
pub fn rfc3339(t: Timestamp) -> String {
    Timestamp::from_second(t.as_second())
        .unwrap_or(t)
        .to_string()
}
