//! The answer of a list, in the format that was negotiated: all but YAML is made while it is sent, so that a long list takes
//! no more memory than a short one. Upstream: responsewriters, the streaming encoders of collections; api-semantics §3.

use std::sync::Arc;

use api::cbor::{self, Order};
use api::protobuf;
use client::Entry;
use jiff::Timestamp;
use machinery::{ApiError, Descriptor};
use serde_json::{Value, json};

use super::Page;
use super::pieces::{Item, Pieces};
use crate::body::Body;
use crate::cache::top_level;
use crate::call::Call;
use crate::limits;
use crate::negotiate::{Media, Transform};
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};

/// Answers with objects that are not stored: their list has no version.
pub async fn computed(call: &Call, entries: Vec<Arc<Entry>>) -> Result<Answer, ApiError> {
    let page = Page {
        entries,
        revision: 0,
        next: None,
        remaining: None,
    };
    answer(call, page).await
}

/// Answers with a page.
pub(super) async fn answer(call: &Call, page: Page) -> Result<Answer, ApiError> {
    let meta = metadata(call, &page);
    let entries = page.entries;
    let list = shell(call, meta)?;
    if call.sends_stored_bytes() {
        return stored(call, &list, entries);
    }
    let shown = Shown::of(call)?;
    match (call.format.media, &call.format.transform) {
        (Media::Json, _) => json_of(&list, entries, shown, call.format.pretty),
        (Media::Cbor, Transform::None) => cbor_of(&list, entries, shown),
        (Media::Protobuf, _) => protobuf_of(list, entries, shown).await,
        _ => whole(call, list, &entries, &shown),
    }
}

/// The answer with objects as they are stored.
fn stored(call: &Call, list: &Value, entries: Vec<Arc<Entry>>) -> Result<Answer, ApiError> {
    let (mut head, tail) = around(list, "items", false, entries.is_empty())?;
    let typed = Typed::of(call.descriptor());
    let begin = typed.begin();
    let (from, between): (usize, &'static [u8]) = match bare(call) {
        false => (0, b","),
        // What is left out begins with the object's brace.
        true if entries.iter().all(|e| e.bytes.starts_with(&begin)) => (begin.len(), b",{"),
        true => {
            let item = move |e: &Entry, out: &mut Vec<u8>| {
                typed.without(&e.bytes, out);
                Ok(())
            };
            let pieces = Pieces::new(head, entries, b",", tail, Item::made(item));
            return Ok(finish(Media::Json, pieces.body(None)?));
        }
    };
    if !entries.is_empty() {
        head.extend_from_slice(&between[1..]);
    }
    let items: usize = entries.iter().map(|e| e.bytes.len() - from).sum();
    let commas = between.len() * entries.len().saturating_sub(1);
    let length = head.len() + items + commas + tail.len();
    let pieces = Pieces::new(head, entries, between, tail, Item::Stored(from));
    Ok(finish(Media::Json, pieces.body(Some(length as u64))?))
}

/// Whether the objects of a list do not say their version and kind. Those of Go's types do not, as nothing decodes them one by
/// one; custom resources do.
fn bare(call: &Call) -> bool {
    call.format.transform == Transform::None && !call.is_custom()
}

/// What stored objects say of their version and kind. Something stands behind both: their keys are sorted, and they have
/// metadata.
struct Typed {
    version: String,
    kind: String,
}

impl Typed {
    fn of(d: &Descriptor) -> Self {
        Self {
            version: format!("\"apiVersion\":{},", json!(d.api_version())),
            kind: format!("\"kind\":{},", json!(d.kind)),
        }
    }

    /// How an object begins that has no field before or between them.
    fn begin(&self) -> Vec<u8> {
        format!("{{{}{}", self.version, self.kind).into_bytes()
    }

    /// Writes an object without them.
    fn without(&self, object: &[u8], out: &mut Vec<u8>) {
        let mut done = 0;
        for field in [&self.version, &self.kind] {
            if let Some(at) = top_level(object, field.as_bytes()) {
                out.extend_from_slice(&object[done..at]);
                done = at + field.len();
            }
        }
        out.extend_from_slice(&object[done..]);
    }
}

fn finish(media: Media, body: Body) -> Answer {
    let mut answer = response::bytes(200, media.text(), bytes::Bytes::new());
    *answer.body_mut() = body;
    answer
}

fn metadata(call: &Call, page: &Page) -> Value {
    let mut meta = json!({});
    if page.revision > 0 {
        meta["resourceVersion"] = json!(page.revision.to_string());
    }
    if let Some(next) = &page.next {
        meta["continue"] = json!(next);
    } else if call.is_custom() && call.format.transform == Transform::None {
        // Upstream's lists of custom resources have it always.
        meta["continue"] = json!("");
    }
    if let Some(n) = page.remaining {
        meta["remainingItemCount"] = json!(n);
    }
    meta
}

/// The list without what it lists.
fn shell(call: &Call, meta: Value) -> Result<Value, ApiError> {
    let d = call.descriptor();
    let of_meta = |v: &str| format!("meta.k8s.io/{v}");
    Ok(match &call.format.transform {
        Transform::None => {
            json!({"kind": d.list_kind, "apiVersion": d.api_version(), "metadata": meta})
        }
        Transform::Table(v) => json!({"kind": "Table", "apiVersion": of_meta(v), "metadata": meta,
            "columnDefinitions": transform::columns(d)}),
        Transform::PartialMetadataList(v) => {
            json!({"kind": METADATA_LIST, "apiVersion": of_meta(v), "metadata": meta})
        }
        Transform::PartialMetadata(_) => {
            let text = format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{})",
                go_type(call, &d.list_kind, "UnstructuredList")
            );
            return Err(ApiError::new(406, "NotAcceptable", text));
        }
    })
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

/// What of an object stands in the list.
struct Shown {
    d: Arc<Descriptor>,
    transform: Transform,
    include: IncludeObject,
    now: Timestamp,
    /// The objects do not say their version and kind.
    bare: bool,
}

impl Shown {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let include = match call.format.transform {
            Transform::Table(_) => IncludeObject::parse(call.query.get("includeObject"))?,
            _ => IncludeObject::None,
        };
        Ok(Self {
            d: call.descriptor().clone(),
            transform: call.format.transform.clone(),
            include,
            now: call.now,
            bare: bare(call),
        })
    }

    /// The field of the list that they stand in.
    fn field(&self) -> &'static str {
        match self.transform {
            Transform::Table(_) => "rows",
            _ => "items",
        }
    }

    /// What a webhook had to convert is converted since it was selected.
    fn value(&self, entry: &Entry) -> Result<Value, std::io::Error> {
        let mut object = entry.value().map_err(std::io::Error::other)?;
        self.d.strategy.from_stored(&mut object);
        if let (true, Some(fields)) = (self.bare, object.as_object_mut()) {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        Ok(match &self.transform {
            Transform::Table(v) => transform::row(&self.d, &object, v, self.include, self.now),
            Transform::PartialMetadataList(v) => transform::partial(&object, v),
            Transform::None | Transform::PartialMetadata(_) => object,
        })
    }
}

/// Lists of metadata.
const METADATA_LIST: &str = "PartialObjectMetadataList";

/// The fields of a list that stand before what it lists, in upstream's order.
const FIELDS: [&str; 4] = ["kind", "apiVersion", "metadata", "columnDefinitions"];

/// Writes a value as JSON; where it is to be pretty, set in by so many spaces from its second line on.
fn write_json(value: &Value, pretty: Option<usize>, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(spaces) = pretty else {
        return Ok(serde_json::to_writer(out, value)?);
    };
    for letter in serde_json::to_vec_pretty(value)? {
        out.push(letter);
        // Strings have no bare newlines.
        if letter == b'\n' {
            out.resize(out.len() + spaces, b' ');
        }
    }
    Ok(())
}

/// A JSON list up to its first item and from its last one on.
fn around(
    list: &Value,
    field: &str,
    pretty: bool,
    empty: bool,
) -> Result<(Vec<u8>, &'static [u8]), ApiError> {
    let (line, colon) = if pretty { ("\n  ", ": ") } else { ("", ":") };
    let mut head = b"{".to_vec();
    for name in FIELDS {
        if let Some(value) = list.get(name) {
            head.extend_from_slice(format!("{line}\"{name}\"{colon}").as_bytes());
            write_json(value, pretty.then_some(2), &mut head).map_err(ApiError::internal)?;
            head.push(b',');
        }
    }
    head.extend_from_slice(format!("{line}\"{field}\"{colon}").as_bytes());
    if empty && list["kind"] == METADATA_LIST {
        // Upstream's list of nothing is none.
        head.extend_from_slice(b"null");
        return Ok((head, if pretty { b"\n}" } else { b"}\n" }));
    }
    head.push(b'[');
    Ok(match (pretty, empty) {
        (false, _) => (head, b"]}\n"),
        (true, true) => (head, b"]\n}"),
        (true, false) => {
            head.extend_from_slice(b"\n    ");
            (head, b"\n  ]\n}")
        }
    })
}

fn json_of(
    list: &Value,
    entries: Vec<Arc<Entry>>,
    shown: Shown,
    pretty: bool,
) -> Result<Answer, ApiError> {
    let (head, tail) = around(list, shown.field(), pretty, entries.is_empty())?;
    let between: &'static [u8] = if pretty { b",\n    " } else { b"," };
    let item = move |entry: &Entry, out: &mut Vec<u8>| {
        write_json(&shown.value(entry)?, pretty.then_some(4), out)
    };
    let pieces = Pieces::new(head, entries, between, tail, Item::made(item));
    Ok(finish(Media::Json, pieces.body(None)?))
}

fn cbor_of(list: &Value, entries: Vec<Arc<Entry>>, shown: Shown) -> Result<Answer, ApiError> {
    let (kind, version) = (shown.d.list_kind.clone(), shown.d.api_version());
    let parts = cbor::List {
        kind: &kind,
        api_version: &version,
        metadata: &list["metadata"],
        length: entries.len(),
    };
    let (head, tail) = (parts.head(), parts.tail(Order::Any));
    let item = move |entry: &Entry, out: &mut Vec<u8>| {
        cbor::List::item(&shown.value(entry)?, Order::Any, out);
        Ok(())
    };
    let pieces = Pieces::new(head, entries, b"", tail, Item::made(item));
    Ok(finish(Media::Cbor, pieces.body(None)?))
}

/// Protobuf tells lengths first: the items are made once to be counted, and once more when they are sent. Those that fit
/// into a few pieces are kept from the first time.
async fn protobuf_of(
    list: Value,
    mut entries: Vec<Arc<Entry>>,
    shown: Shown,
) -> Result<Answer, ApiError> {
    let parts = protobuf::List::new(&list).map_err(|e| response::no_protobuf(&e))?;
    let (mut kept, mut kept_items) = (Vec::new(), 0);
    let (mut one, mut total) = (Vec::new(), 0);
    for (n, entry) in entries.iter().enumerate() {
        one.clear();
        let value = shown.value(entry).map_err(ApiError::internal)?;
        parts
            .item(&value, &mut one)
            .map_err(|e| response::no_protobuf(&e))?;
        total += one.len() as u64;
        if kept_items == n && kept.len() + one.len() <= limits::LIST_KEPT_BYTES {
            kept.extend_from_slice(&one);
            kept_items += 1;
        }
        if n % limits::LIST_ITEMS_AT_ONCE == limits::LIST_ITEMS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    let mut head = parts.head(total).map_err(|e| response::no_protobuf(&e))?;
    let tail = protobuf::List::tail();
    let length = (head.len() + tail.len()) as u64 + total;
    head.append(&mut kept);
    let rest = entries.split_off(kept_items);
    let item = move |entry: &Entry, out: &mut Vec<u8>| {
        let value = shown.value(entry)?;
        parts.item(&value, out).map_err(std::io::Error::other)
    };
    let pieces = Pieces::new(head, rest, b"", tail, Item::made(item));
    Ok(finish(Media::Protobuf, pieces.body(Some(length))?))
}

fn whole(
    call: &Call,
    mut list: Value,
    entries: &[Arc<Entry>],
    shown: &Shown,
) -> Result<Answer, ApiError> {
    let mut values = Vec::with_capacity(entries.len());
    for e in entries {
        values.push(shown.value(e).map_err(ApiError::internal)?);
    }
    list[shown.field()] = match entries.is_empty() && list["kind"] == METADATA_LIST {
        true => Value::Null,
        false => values.into(),
    };
    Ok(response::value(200, &list, &call.format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nobodys_metadata_has_no_items() {
        let list = json!({"kind": METADATA_LIST, "apiVersion": "meta.k8s.io/v1", "metadata": {}});
        for pretty in [false, true] {
            let (mut text, tail) = around(&list, "items", pretty, true).expect("a list");
            text.extend_from_slice(tail);
            let found: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(found["items"], Value::Null);
            assert_eq!(text.ends_with(b"\n"), !pretty);
        }
    }

    #[test]
    fn objects_of_a_list_do_not_say_what_they_are() {
        let typed = Typed {
            version: r#""apiVersion":"v1","#.into(),
            kind: r#""kind":"ConfigMap","#.into(),
        };
        assert_eq!(typed.begin(), br#"{"apiVersion":"v1","kind":"ConfigMap","#);
        for (object, expected) in [
            (
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"kind":"ConfigMap"}}"#,
                r#"{"metadata":{"kind":"ConfigMap"}}"#,
            ),
            (
                r#"{"a":"b","apiVersion":"v1","data":{"kind":"ConfigMap","x":"y"},"kind":"ConfigMap","metadata":{}}"#,
                r#"{"a":"b","data":{"kind":"ConfigMap","x":"y"},"metadata":{}}"#,
            ),
            (r#"{"metadata":{}}"#, r#"{"metadata":{}}"#),
        ] {
            let mut out = Vec::new();
            typed.without(object.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn a_list_item_by_item_is_the_json_of_the_whole() {
        let item = json!({"a": {"b": [1, "two\nlines"]}, "c": []});
        for (pretty, n) in [(false, 0), (false, 2), (true, 0), (true, 2)] {
            let mut list = json!({"kind": "L", "apiVersion": "v1", "metadata": {"continue": ""}});
            let (mut text, tail) = around(&list, "items", pretty, n == 0).expect("a list");
            for i in 0..n {
                if i > 0 {
                    text.extend_from_slice(if pretty { b",\n    " } else { b"," });
                }
                write_json(&item, pretty.then_some(4), &mut text).expect("an item");
            }
            text.extend_from_slice(tail);
            list["items"] = vec![item.clone(); n].into();
            let found: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(found, list);
            // The lines are those of the whole, but for their order.
            let lines = |text: &str| {
                let mut all: Vec<_> = text
                    .lines()
                    .map(|l| l.trim_end_matches(',').to_string())
                    .collect();
                all.sort();
                all
            };
            if pretty {
                let whole = serde_json::to_string_pretty(&list).expect("JSON");
                assert_eq!(lines(&String::from_utf8_lossy(&text)), lines(&whole));
            }
        }
    }
}
