//! How many seats a request takes. Upstream: flowcontrol/request/{width,list_work_estimator}.go, by size.
//!
//! Upstream: a write that many watch keeps its seats for a while, since encoding its event for each
//! watcher costs CPU there. Here watchers share one encoding, so writes take one seat and no more.

use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// Bytes of objects that one seat stands for.
const SEAT_BYTES: u64 = 100_000;
/// Most bytes that are in memory for a list that is sent from the cache.
const CACHED_BYTES: u64 = 1_000_000;
/// Most seats of any request.
const SEATS: u64 = 100;

/// How many objects there are of a resource, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub objects: u64,
    pub bytes: u64,
}

/// The seats of a request, `most` of which a level allows (0: any).
pub fn seats(server: &Inner, info: &RequestInfo, query: &Query, most: usize) -> usize {
    if !info.is_resource || !["list", "watch"].contains(&info.verb.as_str()) {
        return 1;
    }
    let served = (server.registry).find(&info.group, &info.version, &info.resource);
    let Some(cache) = served.and_then(|s| s.cache.clone()) else {
        return 1;
    };
    estimate(info, query, cache.stored(), most as u64) as usize
}

fn estimate(info: &RequestInfo, query: &Query, stored: Stored, most: u64) -> u64 {
    let version = query.get("resourceVersion").unwrap_or("");
    let watch = info.verb == "watch";
    if watch && !query.flag("sendInitialEvents") && !["", "0"].contains(&version) {
        return 1;
    }
    let exact = query.get("resourceVersionMatch") == Some("Exact");
    let continues = query.get("continue").is_some_and(|c| !c.is_empty());
    let from_cache = watch || !(exact || continues);
    let limit = query.integer("limit").ok().flatten().unwrap_or(0);
    let limit = u64::try_from(limit).ok().filter(|l| *l > 0);
    let limited = limit.map_or(stored.objects, |l| l.min(stored.objects));
    let selects = ["fieldSelector", "labelSelector"]
        .iter()
        .any(|s| query.get(s).is_some_and(|v| !v.is_empty()));
    let loaded = match () {
        () if !info.name.is_empty() => 1,
        () if from_cache || !selects => limited,
        () => limited.max(stored.objects / 2),
    };
    let average = stored.bytes / stored.objects.max(1);
    let mut bytes = loaded * average;
    if from_cache {
        bytes = bytes.min(CACHED_BYTES);
    }
    let most = if most == 0 { SEATS } else { most.min(SEATS) };
    bytes.div_ceil(SEAT_BYTES).clamp(1, most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lists_take_more_seats() {
        let stored = Stored {
            objects: 1_000,
            bytes: 4_000_000,
        };
        let table = [
            ("list", "", "", 10),
            ("list", "", "limit=50", 2),
            ("list", "", "limit=500&continue=x", 20),
            ("list", "", "limit=50&continue=x&labelSelector=a%3Db", 20),
            ("list", "one", "", 1),
            ("watch", "", "", 10),
            ("watch", "", "resourceVersion=7", 1),
            ("watch", "", "resourceVersion=7&sendInitialEvents=true", 10),
        ];
        for (verb, name, query, expected) in table {
            let info = RequestInfo {
                verb: verb.into(),
                name: name.into(),
                ..RequestInfo::default()
            };
            let got = estimate(&info, &Query::parse(query), stored, 0);
            assert_eq!(got, expected, "{verb} {name} {query}");
            assert!(estimate(&info, &Query::parse(query), stored, 3) <= 3);
        }
        let info = RequestInfo::default();
        assert_eq!(estimate(&info, &Query::default(), Stored::default(), 0), 1);
    }
}
