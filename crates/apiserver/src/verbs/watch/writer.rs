//! How the events of a watch are selected and written. Upstream: apiserver handlers/watch.go, response.go.

use std::sync::Arc;

use api::cbor::Order;
use bytes::Bytes;
use client::{Change, ChangeKind, Entry};
use serde_json::{Value, json};

use super::{Gone, send_event};
use crate::cache::{CacheEvent, frame, frame_named};
use crate::conversion;
use crate::filter::Filter;
use crate::frames::Frames;
use crate::negotiate::{Media, Transform};
use crate::server::Inner;
use crate::transform::{self, IncludeObject};

/// How events are written.
pub struct Writer {
    pub media: Media,
    pub filter: Filter,
    pub transform: Transform,
    pub include: IncludeObject,
    pub descriptor: Arc<machinery::Descriptor>,
    /// Whether this version differs from what is stored.
    pub converts: bool,
    /// Columns are sent with the first row only.
    pub columns_sent: bool,
    /// Counts what is sent.
    pub sent: Arc<crate::metrics::streams::Sent>,
    /// Set where selectors must see objects as this version shows them.
    pub shown_by: Option<Arc<Inner>>,
}

/// An encoded object under another revision.
fn under(object: &[u8], revision: u64) -> Vec<u8> {
    match serde_json::from_slice::<Value>(object) {
        Ok(mut value) => {
            let text = json!(revision.to_string());
            machinery::object::set(&mut value, "metadata.resourceVersion", text);
            value.to_string().into_bytes()
        }
        Err(_) => object.to_vec(),
    }
}

// === Writer ===

impl Writer {
    /// Entries as selectors must see them. Where they cannot be converted the watch ends with the reason.
    pub async fn shown(
        &self,
        entries: Vec<Arc<Entry>>,
        to: &Frames,
    ) -> Result<Vec<Arc<Entry>>, Gone> {
        let Some(server) = &self.shown_by else {
            return Ok(entries);
        };
        match conversion::entries(server, &self.descriptor, entries).await {
            Ok(shown) => Ok(shown),
            Err(error) => {
                tracing::warn!(%error, "a watch ends: objects cannot be converted");
                to.send(self.named("ERROR", &error.to_status())).await;
                Err(Gone)
            }
        }
    }

    pub async fn event(&mut self, e: &CacheEvent, to: &Frames) -> Result<(), Gone> {
        if self.shown_by.is_none() {
            return self.plain_event(e, to).await;
        }
        let mut both = vec![e.change.entry.clone()];
        both.extend(e.change.before.clone());
        let mut both = self.shown(both, to).await?.into_iter();
        let Some(entry) = both.next() else {
            return Ok(());
        };
        let change = Change {
            kind: e.change.kind,
            entry,
            before: both.next(),
        };
        self.plain_event(&CacheEvent::new(change, e.revision), to)
            .await
    }

    async fn plain_event(&mut self, e: &CacheEvent, to: &Frames) -> Result<(), Gone> {
        let now = self.filter.matches(&e.change.entry);
        let before = e
            .change
            .before
            .as_ref()
            .is_some_and(|b| self.filter.matches(b));
        let kind = match (e.change.kind, before, now) {
            (ChangeKind::Added, _, true) => ChangeKind::Added,
            (ChangeKind::Added, _, false) => return Ok(()),
            (ChangeKind::Deleted, true, _) => ChangeKind::Deleted,
            (ChangeKind::Deleted, false, _) => return Ok(()),
            (ChangeKind::Modified, true, true) => ChangeKind::Modified,
            (ChangeKind::Modified, false, true) => ChangeKind::Added,
            (ChangeKind::Modified, true, false) => ChangeKind::Deleted,
            (ChangeKind::Modified, false, false) => return Ok(()),
        };
        let left = kind == ChangeKind::Deleted && e.change.kind == ChangeKind::Modified;
        let shared = kind == e.change.kind && !self.converts && self.transform == Transform::None;
        let frame = match &e.change.before {
            // It left the selection: what the client knew, under the change's revision.
            Some(before) if left => self.frame(kind, &under(&before.bytes, e.revision)),
            _ if shared && self.media == Media::Json => e.json(),
            _ if shared && self.media == Media::Cbor => match e.cbor() {
                Some(frame) => frame,
                None => return Ok(()),
            },
            _ if shared => match e.protobuf() {
                Some(frame) => frame,
                None => return Ok(()),
            },
            _ => self.frame(kind, &e.change.entry.bytes),
        };
        send_event(self, to, frame).await
    }

    pub fn frame(&mut self, kind: ChangeKind, object: &[u8]) -> Bytes {
        let plain = self.transform == Transform::None && !self.converts;
        if plain && self.media == Media::Json {
            return frame(kind, object);
        }
        match serde_json::from_slice::<Value>(object) {
            Ok(mut value) => {
                self.descriptor.strategy.from_stored(&mut value);
                let shown = self.transformed(&value);
                self.named(kind.name(), &shown)
            }
            Err(error) => {
                tracing::error!(%error, "an object of the cache does not parse");
                frame(kind, object)
            }
        }
    }

    /// A frame of a value in the client's format.
    pub fn named(&self, name: &str, value: &Value) -> Bytes {
        if self.media == Media::Cbor {
            return api::cbor::watch_frame(name, value, Order::Any).into();
        }
        if self.media != Media::Protobuf {
            return frame_named(name, value.to_string().as_bytes());
        }
        match api::protobuf::encode(value) {
            Ok(data) => api::protobuf::watch_frame(name, &data).into(),
            Err(error) => {
                tracing::error!(%error, "an event has no protobuf form");
                Bytes::new()
            }
        }
    }

    fn transformed(&mut self, value: &Value) -> Value {
        match self.transform.clone() {
            Transform::Table(v) => {
                let d = self.descriptor.clone();
                let row = transform::row(&d, value, &v, self.include, jiff::Timestamp::now());
                let columns = if self.columns_sent {
                    Value::Null
                } else {
                    transform::columns(&d)
                };
                self.columns_sent = true;
                let meta = json!({
                    "resourceVersion": machinery::object::str_at(value, "metadata.resourceVersion")});
                transform::table(columns, vec![row], &v, meta)
            }
            Transform::PartialMetadata(v) => transform::partial(value, &v),
            // No event of such a watch is sent.
            Transform::PartialMetadataList(_) | Transform::None => value.clone(),
        }
    }

    pub fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let d = self.descriptor.clone();
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": d.kind, "apiVersion": d.api_version(), "metadata": meta});
        let include = self.include;
        if initial_end && include == IncludeObject::None {
            // Or nobody would know what it is.
            self.include = IncludeObject::Metadata;
        }
        let shown = self.transformed(&object);
        self.include = include;
        self.named("BOOKMARK", &shown)
    }
}
