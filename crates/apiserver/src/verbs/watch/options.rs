//! Where a watch begins and how long it lasts. Upstream: the cacher's Watch.

use std::time::Duration;

use machinery::ApiError;
use rand::Rng;

use crate::limits;
use crate::list_options::ListOptions;
use crate::server::parse_version;

/// Options of a watch, checked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub start: From,
    pub bookmarks: bool,
    /// Whether a bookmark tells the end of the initial events.
    pub initial: bool,
    pub timeout: Duration,
}

/// Where the client wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With everything that is there now: at least as new as a revision (`None`: as the newest write).
    Snapshot(Option<u64>),
    /// With what comes from now on: after the newest write.
    Now,
    /// With what comes to the cache from now on.
    CacheNow,
    /// With what came after a revision.
    After(u64),
}

impl Options {
    /// The options of a watch.
    pub fn of(options: &ListOptions) -> Result<Self, ApiError> {
        let timeout = options.timeout_seconds.unwrap_or(0);
        let timeout = match u64::try_from(timeout) {
            Ok(0) => limits::WATCH_MIN.mul_f64(rand::rng().random_range(1.0..2.0)),
            Ok(seconds) => Duration::from_secs(seconds),
            // The deadline has passed already.
            Err(_) => Duration::ZERO,
        };
        Ok(Self {
            start: start(&options.version, options.initial)?,
            bookmarks: options.bookmarks,
            initial: options.bookmarks && options.initial == Some(true),
            timeout,
        })
    }
}

fn start(version: &str, initial: Option<bool>) -> Result<From, ApiError> {
    let number = parse_version(version)?;
    Ok(match initial {
        Some(true) => From::Snapshot((!version.is_empty()).then_some(number)),
        Some(false) if version.is_empty() => From::Now,
        Some(false) if number == 0 => From::CacheNow,
        None if number == 0 => From::Snapshot(Some(0)),
        _ => From::After(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_begin_where_upstream_begins_them() {
        for (version, initial, expected) in [
            ("", Some(true), From::Snapshot(None)),
            ("0", Some(true), From::Snapshot(Some(0))),
            ("5", Some(true), From::Snapshot(Some(5))),
            ("", Some(false), From::Now),
            ("0", Some(false), From::CacheNow),
            ("5", Some(false), From::After(5)),
            ("", None, From::Snapshot(Some(0))),
            ("0", None, From::Snapshot(Some(0))),
            ("5", None, From::After(5)),
        ] {
            assert_eq!(
                start(version, initial).ok(),
                Some(expected),
                "{version} {initial:?}"
            );
        }
        assert_eq!(start("x", None).map_err(|e| e.code), Err(500));
    }
}
