//! WATCH: a stream of changes from the cache. Upstream: apiserver handlers/watch.go and the
//! watch cache; api-semantics §7.

mod options;

use std::sync::Arc;

use api::cbor::Order;
use bytes::Bytes;
use client::{Change, ChangeKind, Entry};
use machinery::ApiError;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::body;
use crate::cache::{
    Begun, Broken, CacheEvent, History, Start, Step, TooOld, WatchCache, frame, frame_named,
};
use crate::call::Call;
use crate::connect::websocket::{self, Messages};
use crate::conversion;
use crate::fairness::Seat;
use crate::filter::Filter;
use crate::limits;
use crate::negotiate::{Media, Transform};
use crate::response::{self, Answer};
use crate::server::Inner;
use crate::transform::{self, IncludeObject};
use options::{From, Options, options};

/// How events are written.
struct Writer {
    media: Media,
    filter: Filter,
    transform: Transform,
    include: IncludeObject,
    descriptor: Arc<machinery::Descriptor>,
    /// Whether this version differs from what is stored.
    converts: bool,
    /// Columns are sent with the first row only.
    columns_sent: bool,
    /// Counts what is sent.
    sent: Arc<crate::metrics::streams::Sent>,
    /// Set where selectors must see objects as this version shows them.
    shown_by: Option<Arc<Inner>>,
}

/// Begins a watch and streams it: as chunks, or as messages where the client asks for a WebSocket.
pub async fn watch(call: &Call) -> Result<Answer, ApiError> {
    let media = call.format.media;
    if media == Media::Yaml {
        let json = "application/json;stream=watch";
        let protobuf = "application/vnd.kubernetes.protobuf;stream=watch";
        let all = [json, protobuf, "application/cbor-seq"];
        let known = if call.server.serves_cbor() { 3 } else { 2 };
        return Err(ApiError::not_acceptable(&all[..known]));
    }
    let filter = Filter::of(call)?;
    let options = options(call)?;
    let cache = call.cache()?.clone();
    let shows = conversion::selects_shown(call.descriptor())
        && (filter.names_fields() || call.descriptor().strategy.converter().is_some());
    let mut writer = Writer {
        shown_by: shows.then(|| call.server.clone()),
        media,
        filter,
        transform: call.format.transform.clone(),
        include: IncludeObject::parse(call.query.get("includeObject"))?,
        descriptor: call.descriptor().clone(),
        converts: call.descriptor().strategy.converts(),
        columns_sent: false,
        sent: call.server.streams.of(call.descriptor()),
    };
    let start = match options.start {
        From::Snapshot(version) => {
            let version = version.map(|v| v.to_string());
            call.server.wait_fresh(&cache, version.as_deref()).await?;
            Start::Snapshot
        }
        From::Now => Start::After(client::Cache::revision(&*cache)),
        From::After(version) => Start::After(version),
    };
    let (to, from) = mpsc::channel::<Result<Bytes, std::io::Error>>(64);
    let begun = cache.begin(start);
    let server = call.server.clone();
    let seat = call.take_seat();
    tokio::spawn(async move {
        let begun = match (begun, options.start) {
            (Ok(begun), _) => Ok(begun),
            (Err(TooOld), From::After(version)) => {
                let work = catch_up(&mut writer, &server, &cache, version, &to);
                let limit = limits::HISTORY_WAIT.min(options.timeout);
                // Too slow: the client resumes from its newest revision.
                let done = tokio::time::timeout(limit, work).await;
                done.unwrap_or(Err(Gone))
            }
            (Err(TooOld), _) => Err(Gone),
        };
        if let Ok(begun) = begun {
            // An error means that the client went away.
            let work = run(&mut writer, begun, (options, seat), &server, &to);
            let mut shutdown = server.shutdown.subscribe();
            tokio::select! {
                _ = work => {}
                // The stream ends as after its timeout: the client resumes elsewhere, or later.
                _ = shutdown.wait_for(|down| *down) => {}
            }
        }
    });
    let frames = body::stream(tokio_stream::wrappers::ReceiverStream::new(from));
    if let Some(upgrade) = call.take_websocket() {
        let answer = websocket::handshake(&call.headers, &websocket::first_offered(&call.headers))?;
        let messages = match media {
            Media::Protobuf => Messages::Framed,
            Media::Cbor => Messages::Binary,
            _ => Messages::Text,
        };
        tokio::spawn(websocket::send(upgrade, frames, messages));
        return Ok(answer);
    }
    let content = match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        // One item after the other is another type than one item.
        Media::Cbor => "application/cbor-seq",
        _ => Media::Json.text(),
    };
    let mut answer = response::bytes(200, content, Bytes::new());
    *answer.body_mut() = frames;
    Ok(answer)
}

type Sender = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// The client went away.
struct Gone;

async fn send(to: &Sender, frame: Bytes) -> Result<(), Gone> {
    to.send(Ok(frame)).await.map_err(|_| Gone)
}

/// Sends an event, which is counted.
async fn send_event(w: &Writer, to: &Sender, frame: Bytes) -> Result<(), Gone> {
    w.sent.event(frame.len());
    send(to, frame).await
}

/// Sends what the cache does not remember from the store's history; gives the cache's part that follows.
async fn catch_up(
    w: &mut Writer,
    server: &Inner,
    cache: &Arc<WatchCache>,
    after: u64,
    to: &Sender,
) -> Result<Begun, Gone> {
    let place = tokio::select! {
        place = server.histories.acquire() => place,
        () = to.closed() => return Err(Gone),
    };
    let _place = place.map_err(|_| Gone)?;
    let replayed = async {
        let mut history = History::open(server.store.clone(), cache.clone(), after).await?;
        loop {
            match history.next().await? {
                Step::Joined(begun) => return Ok(Ok(begun)),
                Step::Changes(events) => {
                    for event in &events {
                        if let Err(gone) = w.event(event, to).await {
                            return Ok(Err(gone));
                        }
                    }
                }
            }
        }
    };
    let done: Result<Result<Begun, Gone>, Broken> = replayed.await;
    match done {
        Ok(done) => done,
        Err(Broken::Compacted(oldest)) => {
            let text = format!("too old resource version: {after} ({oldest})");
            let frame = w.named("ERROR", &ApiError::expired(text).to_status());
            send(to, frame).await?;
            Err(Gone)
        }
        Err(Broken::Passing(error)) => {
            tracing::warn!(prefix = cache.prefix, %error, "a watch from history is cut off");
            Err(Gone)
        }
    }
}

async fn run(
    w: &mut Writer,
    mut begun: Begun,
    (options, seat): (Options, Option<Seat>),
    server: &Inner,
    to: &Sender,
) -> Result<(), Gone> {
    let began = Instant::now();
    let progress = server.registry.follower().progress();
    let end = Instant::now() + options.timeout;
    let after = begun.after;
    let snapshot = w.shown(std::mem::take(&mut begun.snapshot), to).await?;
    for entry in snapshot {
        if w.filter.matches(&entry) {
            let frame = w.frame(ChangeKind::Added, &entry.bytes);
            send_event(w, to, frame).await?;
        }
    }
    if options.initial && options.bookmarks {
        let frame = w.bookmark(begun.revision, true);
        send_event(w, to, frame).await?;
        server
            .streams
            .listed(&w.descriptor, w.filter.scope(), began.elapsed());
    }
    for event in std::mem::take(&mut begun.replay) {
        w.event(&event, to).await?;
    }
    // What follows is paid by those who change things.
    drop(seat);
    let mut next_bookmark = Instant::now() + limits::BOOKMARK_EVERY;
    loop {
        tokio::select! {
            event = begun.live.recv() => match event {
                // Known already, or from before a version from the future.
                Some(event) if event.revision <= after => {}
                Some(event) => w.event(&event, to).await?,
                // Cut off: the client resumes from its newest revision.
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(next_bookmark.min(end)) => {
                // Taken before the queue is looked at: a bookmark promises that all before was sent.
                let revision = after.max(*progress.borrow());
                while let Ok(event) = begun.live.try_recv() {
                    if event.revision > after {
                        w.event(&event, to).await?;
                    }
                }
                if options.bookmarks {
                    let frame = w.bookmark(revision, false);
                    send_event(w, to, frame).await?;
                }
                if Instant::now() >= end {
                    return Ok(());
                }
                next_bookmark = Instant::now() + limits::BOOKMARK_EVERY;
            }
            () = to.closed() => return Ok(()),
        }
    }
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
    async fn shown(&self, entries: Vec<Arc<Entry>>, to: &Sender) -> Result<Vec<Arc<Entry>>, Gone> {
        let Some(server) = &self.shown_by else {
            return Ok(entries);
        };
        match conversion::entries(server, &self.descriptor, entries).await {
            Ok(shown) => Ok(shown),
            Err(error) => {
                tracing::warn!(%error, "a watch ends: objects cannot be converted");
                send(to, self.named("ERROR", &error.to_status())).await?;
                Err(Gone)
            }
        }
    }

    async fn event(&mut self, e: &CacheEvent, to: &Sender) -> Result<(), Gone> {
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

    async fn plain_event(&mut self, e: &CacheEvent, to: &Sender) -> Result<(), Gone> {
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

    fn frame(&mut self, kind: ChangeKind, object: &[u8]) -> Bytes {
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
    fn named(&self, name: &str, value: &Value) -> Bytes {
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
            Transform::PartialMetadata(v) | Transform::PartialMetadataList(v) => {
                transform::partial(value, &v)
            }
            Transform::None => value.clone(),
        }
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let d = self.descriptor.clone();
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": d.kind, "apiVersion": d.api_version(), "metadata": meta});
        let shown = match &self.transform {
            Transform::Table(v) => {
                let v = v.clone();
                let row = json!({"cells": [], "object": transform::partial(&object, &v)});
                transform::table(
                    Value::Null,
                    vec![row],
                    &v,
                    json!({"resourceVersion": revision.to_string()}),
                )
            }
            Transform::None => object,
            Transform::PartialMetadata(v) | Transform::PartialMetadataList(v) => {
                transform::partial(&object, v)
            }
        };
        self.named("BOOKMARK", &shown)
    }
}
