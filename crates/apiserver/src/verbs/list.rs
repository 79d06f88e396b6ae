//! LIST: from the cache at its newest revision, or page by page at an older one from the store.
//! Upstream: apiserver storage cacher and etcd3 store; api-semantics §6.

use std::sync::Arc;

use api::cbor::{List, Order};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use client::Entry;
use machinery::{ApiError, Causes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Range;

use crate::body;
use crate::call::Call;
use crate::filter::Filter;
use crate::limits;
use crate::negotiate::{Media, Transform};
use crate::registry::storage_prefix;
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};

/// Where a list goes on: upstream's token, base64 of this as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Continue {
    v: String,
    rv: i64,
    start: String,
}

/// One page.
struct Page {
    entries: Vec<Arc<Entry>>,
    revision: u64,
    next: Option<String>,
    remaining: Option<usize>,
}

/// Answers with the objects that match.
pub async fn list(call: &Call) -> Result<Answer, ApiError> {
    let filter = Filter::of(call)?;
    let page = page(call, &filter).await?;
    write(call, page)
}

async fn page(call: &Call, filter: &Filter) -> Result<Page, ApiError> {
    let cache = call.cache()?;
    let limit = call.query.integer("limit")?.unwrap_or(0);
    let limit = usize::try_from(limit).unwrap_or(0);
    let version = call.query.get("resourceVersion").unwrap_or("");
    let matching = call.query.get("resourceVersionMatch").unwrap_or("");
    check_options(call, version, matching)?;
    if let Some(token) = call.query.get("continue").filter(|t| !t.is_empty()) {
        let token = parse_token(token)?;
        if !version.is_empty() && version != "0" {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return older(call, filter, &token, limit).await;
    }
    if !version.is_empty() && version.parse::<u64>().is_err() {
        return Err(bad_version(version));
    }
    // Whatever is there: paging would make it consistent, which nobody asked for.
    let limit = if version == "0" { 0 } else { limit };
    let exactly = matching.is_empty() && limit > 0 && !version.is_empty();
    if matching == "Exact" || exactly {
        let rv = version.parse().map_err(|_| bad_version(version))?;
        let start = Continue {
            v: "meta.k8s.io/v1".into(),
            rv,
            start: String::new(),
        };
        return older(call, filter, &start, limit).await;
    }
    call.server.wait_fresh(cache, Some(version)).await?;
    if let Some((key, why)) = cache.any_broken(filter.namespace.as_deref()) {
        let text = format!("unable to transform key {key:?}: {why}");
        return Err(ApiError::internal(text));
    }
    let (all, revision) = cache.snapshot(filter.namespace.as_deref());
    let all = call.selectable(all, filter).await?;
    let mut matching = all.into_iter().filter(|e| filter.matches(e));
    if limit == 0 {
        return Ok(Page {
            entries: matching.collect(),
            revision,
            next: None,
            remaining: None,
        });
    }
    let entries: Vec<Arc<Entry>> = matching.by_ref().take(limit).collect();
    let left = matching.count();
    let next = match (left, entries.last()) {
        (0, _) | (_, None) => None,
        (_, Some(last)) => Some(token(revision, &relative_key(call, filter, last))),
    };
    let remaining = (left > 0 && filter.is_everything()).then_some(left);
    Ok(Page {
        entries,
        revision,
        next,
        remaining,
    })
}

/// Upstream: metainternalversion validation of ListOptions.
fn check_options(call: &Call, version: &str, matching: &str) -> Result<(), ApiError> {
    let mut causes = Causes::new();
    let continues = call.query.get("continue").is_some_and(|c| !c.is_empty());
    if !matching.is_empty() {
        causes.at("resourceVersionMatch", |c| {
            if version.is_empty() {
                c.forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if continues {
                c.forbidden("resourceVersionMatch is forbidden when continue is provided");
            }
            if !["Exact", "NotOlderThan"].contains(&matching) {
                let known = ["Exact", "NotOlderThan", ""];
                c.not_supported_in_order(&json!(matching), &known);
            }
            if matching == "Exact" && version == "0" {
                c.forbidden(
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        });
    }
    if call.query.get("sendInitialEvents").is_some() {
        causes.at("sendInitialEvents", |c| {
            c.forbidden("sendInitialEvents is forbidden for list");
        });
    }
    crate::call::refuse("ListOptions", &causes)
}

fn bad_version(text: &str) -> ApiError {
    ApiError::bad_request(format!(
        "invalid resource version: resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
    ))
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
    let mut entries = Vec::new();
    loop {
        let range = Range {
            key: start.clone().into(),
            end: end.clone(),
            limit: if limit == 0 { limits::PAGE } else { limit },
            revision,
            ..Range::default()
        };
        let found = call
            .server
            .store
            .range(range)
            .await
            .map_err(|e| read_error(e, from))?;
        let last = found.kvs.last().map(|kv| kv.key.clone());
        let mut read = Vec::with_capacity(found.kvs.len());
        for kv in found.kvs {
            read.push(Arc::new(cache_entry(cache, &kv)?));
        }
        let read = call.selectable(read, filter).await?;
        entries.extend(read.into_iter().filter(|e| filter.matches(e)));
        let Some(last) = last.filter(|_| found.more) else {
            return Ok(Page {
                entries,
                revision,
                next: None,
                remaining: None,
            });
        };
        let last = String::from_utf8_lossy(&last).into_owned();
        if limit != 0 && entries.len() >= limit {
            let relative = last.strip_prefix(&prefix).unwrap_or(&last);
            let rest = found.count.saturating_sub(limit);
            let next = Some(token(revision, relative));
            let remaining = filter.is_everything().then_some(rest);
            return Ok(Page {
                entries,
                revision,
                next,
                remaining,
            });
        }
        start = format!("{last}\0");
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
            let fresh = Continue {
                v: from.v.clone(),
                rv: -1,
                start: from.start.clone(),
            };
            let mut e = ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            );
            e.continue_token = Some(encode_token(&fresh));
            e
        }
        store::Error::FutureRevision { asked, current } => crate::server::too_large(asked, current),
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

/// A token that goes on right after a key.
fn token(revision: u64, last_key: &str) -> String {
    let rv = i64::try_from(revision).unwrap_or(0);
    encode_token(&Continue {
        v: "meta.k8s.io/v1".into(),
        rv,
        start: format!("/{last_key}\0"),
    })
}

fn encode_token(c: &Continue) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(c).unwrap_or_default())
}

/// Whether a text says where a list goes on.
pub fn is_token(text: &str) -> bool {
    parse_token(text).is_ok()
}

fn parse_token(text: &str) -> Result<Continue, ApiError> {
    let bad = |why: &str| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid{why}"
        ))
    };
    let data = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|e| bad(&format!(": {e}")))?;
    let mut c: Continue = serde_json::from_slice(&data).map_err(|e| bad(&format!(": {e}")))?;
    if c.v != "meta.k8s.io/v1" {
        return Err(bad(&format!(
            ": server does not recognize this encoded version {}",
            c.v
        )));
    }
    if c.rv == 0 {
        return Err(bad(
            ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ));
    }
    if c.start.is_empty() {
        return Err(bad(": encoded start key empty (version meta.k8s.io/v1)"));
    }
    if c.start.split('/').any(|p| p == ".." || p == ".") {
        return Err(bad(&format!(": {}", c.start)));
    }
    // Those of older servers begin without a slash.
    c.start = c.start.trim_start_matches('/').to_string();
    Ok(c)
}

/// Answers with objects that are not stored: their list has no version.
pub fn computed(call: &Call, entries: Vec<Arc<Entry>>) -> Result<Answer, ApiError> {
    let page = Page {
        entries,
        revision: 0,
        next: None,
        remaining: None,
    };
    write(call, page)
}

fn write(call: &Call, page: Page) -> Result<Answer, ApiError> {
    let mut meta = json!({});
    if page.revision > 0 {
        meta["resourceVersion"] = json!(page.revision.to_string());
    }
    if let Some(next) = page.next {
        meta["continue"] = json!(next);
    } else if call.is_custom() && call.format.transform == Transform::None {
        // Upstream's lists of custom resources have it always.
        meta["continue"] = json!("");
    }
    if let Some(n) = page.remaining {
        meta["remainingItemCount"] = json!(n);
    }
    let d = call.descriptor();
    if call.sends_stored_bytes() {
        return Ok(raw(d, &meta, &page.entries));
    }
    if call.format.media == Media::Cbor && call.format.transform == Transform::None {
        return Ok(cbor(call, meta, page.entries));
    }
    let mut values = Vec::with_capacity(page.entries.len());
    for e in &page.entries {
        // What a webhook had to convert is converted since it was selected.
        values.push(call.plain_view(e)?);
    }
    let shown = match &call.format.transform {
        Transform::None => json!({
            "kind": d.list_kind, "apiVersion": d.api_version(), "metadata": meta, "items": values}),
        Transform::Table(v) => {
            let include = IncludeObject::parse(call.query.get("includeObject"))?;
            let row = |o: &Value| transform::row(d, o, v, include, call.now);
            transform::table(
                transform::columns(d),
                values.iter().map(row).collect(),
                v,
                meta,
            )
        }
        Transform::PartialMetadataList(v) => transform::partial_list(&values, v, meta),
        Transform::PartialMetadata(_) => {
            let text = format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{})",
                go_type(call, &d.list_kind, "UnstructuredList")
            );
            return Err(ApiError::new(406, "NotAcceptable", text));
        }
    };
    Ok(response::value(200, &shown, &call.format))
}

/// Upstream's internal type of a kind, by the package of its group.
pub fn go_type(call: &Call, kind: &str, unstructured: &str) -> String {
    let d = call.descriptor();
    match d.group.split('.').next() {
        _ if call.is_custom() => format!("unstructured.{unstructured}"),
        None | Some("") => format!("core.{kind}"),
        Some(package) => format!("{package}.{kind}"),
    }
}

/// The list in CBOR, encoded while it is sent.
fn cbor(call: &Call, meta: Value, entries: Vec<Arc<Entry>>) -> Answer {
    let d = call.descriptor().clone();
    let version = d.api_version();
    let list = List {
        kind: &d.list_kind,
        api_version: &version,
        metadata: &meta,
        length: entries.len(),
    };
    let (head, tail) = (list.head(), list.tail(Order::Any));
    let parts: Vec<Vec<Arc<Entry>>> = entries.chunks(64).map(<[_]>::to_vec).collect();
    let items = parts.into_iter().map(move |part| {
        let mut out = Vec::new();
        for entry in part {
            let mut value = entry.value().map_err(std::io::Error::other)?;
            d.strategy.from_stored(&mut value);
            List::item(&value, Order::Any, &mut out);
        }
        Ok(Bytes::from(out))
    });
    let all = std::iter::once(Ok(head.into()))
        .chain(items)
        .chain(std::iter::once(Ok(tail.into())));
    let mut answer = response::bytes(200, Media::Cbor.text(), Bytes::new());
    *answer.body_mut() = body::stream(futures::stream::iter(all));
    answer
}

/// The list as its shared buffers, one after the other.
fn raw(d: &machinery::Descriptor, meta: &Value, entries: &[Arc<Entry>]) -> Answer {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        d.list_kind,
        d.api_version()
    );
    let mut parts: Vec<Bytes> = Vec::new();
    let mut small = BytesMut::from(head.as_bytes());
    for (i, e) in entries.iter().enumerate() {
        if i > 0 {
            small.put_u8(b',');
        }
        // Small objects are gathered into larger writes; large ones are handed over as they are.
        if e.bytes.len() < 16 << 10 {
            small.put_slice(&e.bytes);
            if small.len() > 64 << 10 {
                parts.push(small.split().freeze());
            }
        } else {
            parts.push(small.split().freeze());
            parts.push(e.bytes.clone());
        }
    }
    small.put_slice(b"]}\n");
    parts.push(small.freeze());
    let mut answer = response::bytes(200, Media::Json.text(), Bytes::new());
    *answer.body_mut() = if parts.len() == 1 {
        body::full(parts.remove(0))
    } else {
        body::chunks(parts)
    };
    answer
}
