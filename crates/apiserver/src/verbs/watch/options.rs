//! What a client may say about a watch. Upstream: apimachinery's metav1.ListOptions and their validation.

use std::time::Duration;

use machinery::ApiError;
use rand::Rng;

use crate::call::Call;
use crate::limits;

/// Options of a watch, checked.
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
    /// With what comes from now on.
    Now,
    /// With what came after a revision.
    After(u64),
}

/// The options of a call.
pub fn options(call: &Call) -> Result<Options, ApiError> {
    let invalid = |text: &str| {
        ApiError::new(
            422,
            "Invalid",
            format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"),
        )
    };
    let q = &call.query;
    let initial = q
        .get("sendInitialEvents")
        .map(|_| q.flag("sendInitialEvents"));
    let version = q.get("resourceVersion").unwrap_or("");
    let matching = q.get("resourceVersionMatch").unwrap_or("");
    match (initial, matching) {
        (Some(_), "NotOlderThan") | (None, "") => {}
        (_, _) if q.get("continue").is_some_and(|c| !c.is_empty()) => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        (Some(_), "") => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (Some(_), other) => {
            return Err(invalid(&format!(
                "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"NotOlderThan\""
            )));
        }
        (None, _) => {
            return Err(invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    let seconds = q.integer("timeoutSeconds")?;
    let timeout = match seconds.and_then(|s| u64::try_from(s).ok()) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => limits::WATCH_MIN.mul_f64(rand::rng().random_range(1.0..2.0)),
    };
    let start = start(version, initial)?;
    Ok(Options {
        initial: matches!(start, From::Snapshot(_)),
        start,
        bookmarks: q.flag("allowWatchBookmarks"),
        timeout,
    })
}

/// Where a watch begins: without a version it is a list that goes on, unless that is refused.
fn start(version: &str, initial: Option<bool>) -> Result<From, ApiError> {
    let number = match version {
        "" => None,
        text => Some(text.parse().map_err(|_| crate::server::bad_version(text))?),
    };
    Ok(match (number, initial) {
        (None | Some(0), Some(false)) => From::Now,
        (None | Some(0), _) | (_, Some(true)) => From::Snapshot(number),
        (Some(n), _) => From::After(n),
    })
}
