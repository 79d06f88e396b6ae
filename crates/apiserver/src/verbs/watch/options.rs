//! What a client may say about a watch. Upstream: apimachinery's metav1.ListOptions and their validation.

use std::time::Duration;

use machinery::{ApiError, Causes};
use rand::Rng;
use serde_json::json;

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
    let q = &call.query;
    let initial = q
        .get("sendInitialEvents")
        .map(|_| q.flag("sendInitialEvents"));
    let version = q.get("resourceVersion").unwrap_or("");
    let matching = q.get("resourceVersionMatch").unwrap_or("");
    let mut causes = Causes::new();
    causes.at("resourceVersionMatch", |c| {
        if initial.is_some() && matching != "NotOlderThan" {
            c.forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if matching.is_empty() {
            return;
        }
        if initial.is_none() {
            c.forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if matching != "NotOlderThan" {
            c.not_supported(&json!(matching), &["NotOlderThan"]);
        }
        if q.get("continue").is_some_and(|c| !c.is_empty()) {
            c.forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
    });
    crate::call::refuse("ListOptions", &causes)?;
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
