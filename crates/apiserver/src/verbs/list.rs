//! LIST: from the cache at its newest revision, or page by page at an older one from the store.
//! Upstream: apiserver storage cacher and etcd3 store; api-semantics §6.

mod pieces;
mod token;
mod written;

use std::sync::Arc;

use client::Entry;
use machinery::ApiError;
use store::Range;

use crate::call::Call;
use crate::filter::Filter;
use crate::limits;
use crate::list_options::ListOptions;
use crate::registry::storage_prefix;
use crate::response::Answer;
use token::Continue;

pub use token::is_token;
pub use written::{computed, go_type};

/// One page.
struct Page {
    entries: Vec<Arc<Entry>>,
    revision: u64,
    next: Option<String>,
    remaining: Option<usize>,
}

/// Answers with the objects that match.
pub async fn list(call: &Call) -> Result<Answer, ApiError> {
    let options = ListOptions::of(call)?;
    let filter = Filter::with(call, &options);
    let page = page(call, &options, &filter).await?;
    written::answer(call, page).await
}

/// Where a list reads.
enum From {
    /// At a revision, from a key on.
    Older(Continue),
    /// What the cache has, once it is as new as a version: `""` is the newest write.
    Cache(String),
    /// The newest revision, which must not be below one.
    Store(u64),
}

/// Upstream: storage.ValidateListOptions and delegator.ShouldDelegateList.
fn plan(o: &ListOptions, single: bool) -> Result<From, ApiError> {
    if !o.token.is_empty() {
        let start = token::parse(&o.token)
            .map_err(|why| ApiError::bad_request(format!("invalid continue token: {why}")))?;
        if !["", "0"].contains(&o.version.as_str()) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(From::Older(start));
    }
    let rv = crate::list_options::parse_version(&o.version)
        .map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))?;
    let legacy = o.matching.is_empty() && o.limit > 0 && rv > 0;
    Ok(match o.matching.as_str() {
        _ if legacy && single => From::Store(rv),
        "Exact" => From::Older(Continue::at(rv)),
        _ if legacy => From::Older(Continue::at(rv)),
        _ => From::Cache(o.version.clone()),
    })
}

async fn page(call: &Call, o: &ListOptions, filter: &Filter) -> Result<Page, ApiError> {
    let cache = call.cache()?;
    let single = o.token.is_empty() && filter.is_single(call.descriptor().namespaced());
    // Whatever is there: paging would make it consistent, which nobody asked for.
    let limit = if o.version == "0" { 0 } else { o.limit };
    let limit = usize::try_from(limit).unwrap_or(0);
    match plan(o, single)? {
        From::Older(start) => return older(call, filter, &start, limit).await,
        From::Cache(version) => call.server.wait_fresh(cache, Some(&version)).await?,
        From::Store(least) => {
            let current = call.server.store.revision().await;
            let current = current.map_err(ApiError::internal)?;
            if least > current {
                return Err(crate::server::too_large(least, current, 0));
            }
            call.server.wait_fresh(cache, None).await?;
        }
    }
    if let Some((key, why)) = cache.any_broken(filter.namespace.as_deref()) {
        let text = format!("unable to transform key {key:?}: {why}");
        return Err(ApiError::internal(text));
    }
    let (all, revision) = cache.snapshot(filter.namespace.as_deref());
    let shown = call.selectable(&all, filter).await?;
    let mut taken = Taken::new(limit);
    let everything = filter.is_everything();
    let count = all.len();
    for (i, e) in all.into_iter().enumerate() {
        let meant = filter.matches(shown.selected(i, &e));
        if taken.full() {
            // One key at most is read of a single one.
            taken.more |= !single;
            break;
        }
        if meant {
            taken.entries.push(shown.sent(i, e));
        }
    }
    let next = taken.entries.last().filter(|_| taken.more);
    let next = next.map(|last| token::after(revision, &relative_key(call, filter, last)));
    let left = count.saturating_sub(limit);
    Ok(Page {
        remaining: (taken.more && everything).then_some(left),
        entries: taken.entries,
        revision,
        next,
    })
}

/// A page at an older revision, read from the store until it is full.
async fn older(
    call: &Call,
    filter: &Filter,
    from: &Continue,
    limit: usize,
) -> Result<Page, ApiError> {
    let cache = call.cache()?;
    let d = call.descriptor();
    let mut prefix = storage_prefix(d);
    if let (true, Some(ns)) = (d.namespaced(), &filter.namespace) {
        prefix.push_str(ns);
        prefix.push('/');
    }
    let revision = match u64::try_from(from.rv) {
        // An inconsistent continuation goes on at the newest revision.
        Ok(0) | Err(_) => *call.server.registry.follower().progress().borrow(),
        Ok(rv) => rv,
    };
    let end = store::prefix_end(prefix.as_bytes());
    let mut start = format!("{prefix}{}", from.start);
    let mut taken = Taken::new(limit);
    let mut last = String::new();
    let remaining = loop {
        let range = Range {
            key: start.into(),
            end: end.clone(),
            limit: if limit == 0 { limits::PAGE } else { limit },
            revision,
            ..Range::default()
        };
        let found = call.server.store.range(range).await;
        let found = found.map_err(|e| read_error(e, from))?;
        let mut read = Vec::with_capacity(found.kvs.len());
        for kv in &found.kvs {
            read.push(Arc::new(cache_entry(cache, kv)?));
        }
        let shown = call.selectable(&read, filter).await?;
        for (i, (e, kv)) in read.into_iter().zip(&found.kvs).enumerate() {
            if taken.full() {
                taken.more = true;
                break;
            }
            last = String::from_utf8_lossy(&kv.key).into_owned();
            if filter.matches(shown.selected(i, &e)) {
                taken.entries.push(shown.sent(i, e));
            }
        }
        taken.more |= found.more && taken.full();
        if taken.more || !found.more {
            break found.count.saturating_sub(limit);
        }
        start = format!("{last}\0");
    };
    let relative = last.strip_prefix(&prefix).unwrap_or(&last);
    let everything = filter.is_everything();
    Ok(Page {
        next: taken.more.then(|| token::after(revision, relative)),
        remaining: (taken.more && everything).then_some(remaining),
        entries: taken.entries,
        revision,
    })
}

/// Entries up to a limit.
struct Taken {
    entries: Vec<Arc<Entry>>,
    limit: usize,
    /// Whether there are more keys, be they meant or not.
    more: bool,
}

// === Taken ===

impl Taken {
    fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            limit,
            more: false,
        }
    }

    fn full(&self) -> bool {
        self.limit > 0 && self.entries.len() >= self.limit
    }
}

fn cache_entry(cache: &crate::cache::WatchCache, kv: &store::KeyValue) -> Result<Entry, ApiError> {
    crate::cache::entry(cache, kv).map_err(|(key, e)| ApiError::internal(format!("{key}: {e}")))
}

fn read_error(e: store::Error, from: &Continue) -> ApiError {
    match e {
        store::Error::Compacted { .. } if from.start.is_empty() => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        store::Error::Compacted { .. } => {
            let mut e = ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            );
            e.continue_token = Some(from.newest());
            e
        }
        store::Error::FutureRevision { asked, current } => {
            crate::server::too_large(asked, current, 1)
        }
        other => ApiError::internal(other),
    }
}

/// The key of an entry below the listed prefix.
fn relative_key(call: &Call, filter: &Filter, e: &Entry) -> String {
    if call.descriptor().namespaced() && filter.namespace.is_none() {
        format!("{}/{}", e.namespace, e.name)
    } else {
        e.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_where_a_list_reads() {
        let options = |query: &str| {
            let query = crate::query::Query::parse(query);
            ListOptions::decode(&query).expect("options")
        };
        for (query, single, expected) in [
            ("", false, "cache "),
            ("limit=1", false, "cache "),
            ("resourceVersion=0&limit=1", false, "cache 0"),
            ("resourceVersion=5", false, "cache 5"),
            (
                "resourceVersion=5&resourceVersionMatch=NotOlderThan&limit=1",
                false,
                "cache 5",
            ),
            ("resourceVersion=5&limit=1", false, "older 5"),
            ("resourceVersion=5&limit=1", true, "store 5"),
            (
                "resourceVersion=5&resourceVersionMatch=Exact",
                true,
                "older 5",
            ),
            ("resourceVersion=x", false, "400"),
            ("continue=x", false, "400"),
        ] {
            let found = match plan(&options(query), single) {
                Ok(From::Older(c)) => format!("older {}", c.rv),
                Ok(From::Cache(version)) => format!("cache {version}"),
                Ok(From::Store(rv)) => format!("store {rv}"),
                Err(e) => e.code.to_string(),
            };
            assert_eq!(found, expected, "{query}");
        }
    }
}
