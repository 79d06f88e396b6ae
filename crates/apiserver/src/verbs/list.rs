//! LIST: from the cache at its newest revision, or page by page at an older one from the store.
//! Upstream: apiserver storage cacher and etcd3 store; api-semantics §6.

use std::sync::Arc;

use api::cbor::{List, Order};
use base64::Engine;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use client::Entry;
use machinery::ApiError;
use serde::Serialize;
use serde_json::{Value, json};
use store::Range;

use crate::body;
use crate::call::Call;
use crate::filter::Filter;
use crate::limits;
use crate::list_options::ListOptions;
use crate::negotiate::{Media, Transform};
use crate::registry::storage_prefix;
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};

/// Of tokens.
const VERSION: &str = "meta.k8s.io/v1";
/// Their encoding: Go does not mind bits that are left over.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where a list goes on: upstream's token, base64 of this as JSON.
#[derive(Debug, Default, Serialize)]
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
    let options = ListOptions::of(call)?;
    let filter = Filter::with(call, &options);
    let page = page(call, &options, &filter).await?;
    write(call, page)
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
        let token = parse_token(&o.token)
            .map_err(|why| ApiError::bad_request(format!("invalid continue token: {why}")))?;
        if !["", "0"].contains(&o.version.as_str()) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(From::Older(token));
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
    let all = call.selectable(all, filter).await?;
    let mut taken = Taken::new(limit);
    let everything = filter.is_everything();
    let count = all.len();
    for e in all {
        let meant = filter.matches(&e);
        if taken.full() {
            // One key at most is read of a single one.
            taken.more |= !single;
            break;
        }
        if meant {
            taken.entries.push(e);
        }
    }
    let next = taken.entries.last().filter(|_| taken.more);
    let next = next.map(|last| token(revision, &relative_key(call, filter, last)));
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
        let read = call.selectable(read, filter).await?;
        for (e, kv) in read.into_iter().zip(&found.kvs) {
            if taken.full() {
                taken.more = true;
                break;
            }
            last = String::from_utf8_lossy(&kv.key).into_owned();
            if filter.matches(&e) {
                taken.entries.push(e);
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
        next: taken.more.then(|| token(revision, relative)),
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
            let fresh = Continue {
                v: VERSION.into(),
                rv: -1,
                start: from.start.clone(),
            };
            let mut e = ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            );
            e.continue_token = Some(encode_token(&fresh));
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

/// A token that goes on right after a key.
fn token(revision: u64, last_key: &str) -> String {
    let rv = i64::try_from(revision).unwrap_or(0);
    encode_token(&Continue {
        v: VERSION.into(),
        rv,
        start: format!("/{last_key}\0"),
    })
}

fn encode_token(c: &Continue) -> String {
    TOKENS.encode(serde_json::to_vec(c).unwrap_or_default())
}

/// Whether a text says where a list goes on.
pub fn is_token(text: &str) -> bool {
    parse_token(text).is_ok()
}

/// Upstream: storage.DecodeContinue.
fn parse_token(text: &str) -> Result<Continue, String> {
    let invalid = "continue key is not valid";
    if let Some(why) = api::go::base64_error(text) {
        return Err(format!("{invalid}: {why}"));
    }
    let text: String = text.chars().filter(|c| !['\r', '\n'].contains(c)).collect();
    let data = TOKENS.decode(text).unwrap_or_default();
    if let Some(why) = api::go::json::syntax_error(&data) {
        return Err(format!("{invalid}: {why}"));
    }
    let mut c = Continue::of(&data).map_err(|why| format!("{invalid}: {why}"))?;
    if c.v != VERSION {
        let version = &c.v;
        return Err(format!(
            "{invalid}: server does not recognize this encoded version {version}"
        ));
    }
    if c.rv == 0 {
        return Err(format!(
            "{invalid}: incorrect encoded start resourceVersion (version {VERSION})"
        ));
    }
    if c.start.is_empty() {
        return Err(format!(
            "{invalid}: encoded start key empty (version {VERSION})"
        ));
    }
    // Those of older servers begin without a slash.
    let start = c.start.strip_prefix('/').unwrap_or(&c.start);
    let clean = start.split('/').all(|p| !["", ".", ".."].contains(&p));
    if !clean && !start.is_empty() {
        return Err(format!("{invalid}: {}", c.start));
    }
    c.start = start.to_string();
    Ok(c)
}

// === Continue ===

impl Continue {
    /// The beginning at a revision.
    fn at(revision: u64) -> Self {
        Self {
            v: VERSION.into(),
            rv: i64::try_from(revision).unwrap_or(i64::MAX),
            start: String::new(),
        }
    }

    /// Reads a token's JSON; an error is Go's text.
    fn of(data: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        let kind = |v: &Value| match v {
            Value::String(_) => "string".into(),
            Value::Number(n) => format!("number {n}"),
            Value::Bool(_) => "bool".into(),
            Value::Array(_) => "array".into(),
            _ => String::from("object"),
        };
        if value.is_null() {
            return Ok(Self::default());
        }
        let Value::Object(map) = &value else {
            let kind = kind(&value);
            let kind = kind.split(' ').next().unwrap_or_default();
            return Err(format!(
                "json: cannot unmarshal {kind} into Go value of type storage.continueToken"
            ));
        };
        let mut out = Self::default();
        for (key, value) in map.iter().filter(|(_, v)| !v.is_null()) {
            let (name, wanted, good) = match key.to_lowercase().as_str() {
                "v" => ("v", "string", value.as_str().map(|t| out.v = t.into())),
                "rv" => ("rv", "int64", value.as_i64().map(|n| out.rv = n)),
                "start" => (
                    "start",
                    "string",
                    value.as_str().map(|t| out.start = t.into()),
                ),
                _ => continue,
            };
            if good.is_none() {
                let mut kind = kind(value);
                if wanted == "string" && value.is_number() {
                    kind = "number".into();
                }
                return Err(format!(
                    "json: cannot unmarshal {kind} into Go struct field continueToken.{name} of type {wanted}"
                ));
            }
        }
        Ok(out)
    }
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
        return Ok(raw(d, &meta, page.entries));
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

/// The list as its shared buffers, one after the other, made while it is sent: a long list takes no more than a short one.
fn raw(d: &machinery::Descriptor, meta: &Value, entries: Vec<Arc<Entry>>) -> Answer {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        d.list_kind,
        d.api_version()
    );
    let bytes: usize = entries.iter().map(|e| e.bytes.len() + 1).sum();
    let mut pieces = Pieces {
        gathered: BytesMut::from(head.as_bytes()),
        entries: entries.into_iter(),
        begun: false,
        ended: false,
        alone: None,
    };
    let mut answer = response::bytes(200, Media::Json.text(), Bytes::new());
    *answer.body_mut() = if bytes < PIECE {
        let all: Vec<u8> = pieces.by_ref().flatten().collect();
        body::full(all)
    } else {
        body::stream(futures::stream::iter(pieces.map(Ok)))
    };
    answer
}

/// Small objects are gathered into pieces of about this size; those from a quarter of it on are handed over as they are.
const PIECE: usize = 64 << 10;

/// The pieces of a list.
struct Pieces {
    gathered: BytesMut,
    entries: std::vec::IntoIter<Arc<Entry>>,
    begun: bool,
    ended: bool,
    /// A large object that follows what was gathered.
    alone: Option<Bytes>,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(alone) = self.alone.take() {
            return Some(alone);
        }
        while !self.ended {
            let Some(entry) = self.entries.next() else {
                self.ended = true;
                self.gathered.put_slice(b"]}\n");
                break;
            };
            if std::mem::replace(&mut self.begun, true) {
                self.gathered.put_u8(b',');
            }
            if entry.bytes.len() >= PIECE / 4 {
                self.alone = Some(entry.bytes.clone());
                break;
            }
            self.gathered.put_slice(&entry.bytes);
            if self.gathered.len() > PIECE {
                break;
            }
        }
        let piece = std::mem::take(&mut self.gathered).freeze();
        (!piece.is_empty()).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_refused_as_upstream_refuses_them() {
        let of = |json: &str| TOKENS.encode(json);
        let whole = "{\"v\":\"meta.k8s.io/v1\",\"rv\":5,\"start\":\"S\"}";
        let start = |s: &str| of(&whole.replace('S', s));
        for (token, why) in [
            (
                "garbage".into(),
                ": invalid character '\\u0081' looking for beginning of value",
            ),
            ("e30=".into(), ": illegal base64 data at input byte 3"),
            (of("{"), ": unexpected end of JSON input"),
            (
                of("{}"),
                ": server does not recognize this encoded version ",
            ),
            (
                of("7"),
                ": json: cannot unmarshal number into Go value of type storage.continueToken",
            ),
            (
                of("{\"rv\":\"x\"}"),
                ": json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (
                of("{\"v\":\"meta.k8s.io/v1\"}"),
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                start(""),
                ": encoded start key empty (version meta.k8s.io/v1)",
            ),
            (start("/../x"), ": /../x"),
            (start("a//b"), ": a//b"),
            (start("a/"), ": a/"),
        ] {
            let expected = format!("continue key is not valid{why}");
            assert_eq!(parse_token(&token).map(|c| c.start), Err(expected));
        }
        for text in ["a/b", "/a/b"] {
            assert_eq!(parse_token(&start(text)).map(|c| c.start), Ok("a/b".into()));
        }
    }

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
