//! WATCH: a stream of changes from the cache. Upstream: apiserver handlers/watch.go and the
//! watch cache; api-semantics §7.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::ChangeKind;
use machinery::ApiError;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::body;
use crate::cache::{Begun, CacheEvent, Start, TooOld, frame, frame_named};
use crate::call::Call;
use crate::filter::Filter;
use crate::limits;
use crate::negotiate::{Media, Transform};
use crate::response::{self, Answer};
use crate::transform::{self, IncludeObject};

/// Options of a watch, checked.
struct Options {
    version: String,
    bookmarks: bool,
    initial: bool,
    timeout: Duration,
}

/// How events are written.
struct Writer {
    filter: Filter,
    transform: Transform,
    include: IncludeObject,
    descriptor: Arc<machinery::Descriptor>,
    /// Whether this version differs from what is stored.
    converts: bool,
    /// Columns are sent with the first row only.
    columns_sent: bool,
}

/// Begins a watch and streams it.
pub async fn watch(call: &Call) -> Result<Answer, ApiError> {
    if call.format.media != Media::Json {
        return Err(ApiError::not_acceptable(&["application/json;stream=watch"]));
    }
    let filter = Filter::of(call)?;
    let options = options(call)?;
    let cache = call.cache()?.clone();
    let mut writer = Writer {
        filter,
        transform: call.format.transform.clone(),
        include: IncludeObject::parse(call.query.get("includeObject"))?,
        descriptor: call.descriptor().clone(),
        converts: call.descriptor().strategy.converts(),
        columns_sent: false,
    };
    let start = match options.version.as_str() {
        _ if options.initial => Start::Snapshot,
        "" | "0" => Start::Snapshot,
        text => Start::After(text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })?),
    };
    call.server
        .wait_fresh(&cache, Some(&options.version))
        .await?;
    let (to, from) = mpsc::channel::<Result<Bytes, std::io::Error>>(64);
    match cache.begin(start) {
        Ok(begun) => {
            let progress = call.server.registry.follower().progress();
            tokio::spawn(async move {
                // An error means that the client went away.
                let _ = run(&mut writer, begun, options, progress, &to).await;
            });
        }
        Err(TooOld(oldest)) => {
            let e = ApiError::expired(format!(
                "too old resource version: {} ({oldest})",
                options.version
            ));
            let object = serde_json::to_vec(&e.to_status()).map_err(ApiError::internal)?;
            // The channel is new and has room.
            let _ = to.try_send(Ok(frame_named("ERROR", &object)));
        }
    }
    let mut answer = response::bytes(200, Media::Json.text(), Bytes::new());
    let frames = tokio_stream::wrappers::ReceiverStream::new(from);
    *answer.body_mut() = body::stream(frames);
    Ok(answer)
}

fn options(call: &Call) -> Result<Options, ApiError> {
    let invalid = |text: &str| {
        ApiError::new(
            422,
            "Invalid",
            format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"),
        )
    };
    let q = &call.query;
    let initial = q.get("sendInitialEvents").filter(|v| !v.is_empty());
    let matching = q.get("resourceVersionMatch").unwrap_or("");
    match (initial, matching) {
        (Some(_), "NotOlderThan") | (None, "") => {}
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
    let timeout = match q.get("timeoutSeconds").and_then(|t| t.parse::<u64>().ok()) {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => limits::WATCH_MIN.mul_f64(rand::rng().random_range(1.0..2.0)),
    };
    Ok(Options {
        version: q.get("resourceVersion").unwrap_or("").to_string(),
        bookmarks: q.is_true("allowWatchBookmarks"),
        initial: q.is_true("sendInitialEvents"),
        timeout,
    })
}

type Sender = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// The client went away.
struct Gone;

async fn send(to: &Sender, frame: Bytes) -> Result<(), Gone> {
    to.send(Ok(frame)).await.map_err(|_| Gone)
}

async fn run(
    w: &mut Writer,
    mut begun: Begun,
    options: Options,
    progress: tokio::sync::watch::Receiver<u64>,
    to: &Sender,
) -> Result<(), Gone> {
    let end = Instant::now() + options.timeout;
    for entry in std::mem::take(&mut begun.snapshot) {
        if w.filter.matches(&entry) {
            let frame = w.frame(ChangeKind::Added, &entry.bytes);
            send(to, frame).await?;
        }
    }
    if options.initial && options.bookmarks {
        let frame = w.bookmark(begun.revision, true);
        send(to, frame).await?;
    }
    for event in std::mem::take(&mut begun.replay) {
        w.event(&event, to).await?;
    }
    let mut next_bookmark = Instant::now() + limits::BOOKMARK_EVERY;
    loop {
        tokio::select! {
            event = begun.live.recv() => match event {
                Some(event) => w.event(&event, to).await?,
                // Cut off: the client resumes from its newest revision.
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(next_bookmark.min(end)) => {
                // Taken before the queue is looked at: a bookmark promises that all before was sent.
                let revision = *progress.borrow();
                while let Ok(event) = begun.live.try_recv() {
                    w.event(&event, to).await?;
                }
                if options.bookmarks {
                    let frame = w.bookmark(revision, false);
                    send(to, frame).await?;
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
    async fn event(&mut self, e: &CacheEvent, to: &Sender) -> Result<(), Gone> {
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
        let frame = match &e.change.before {
            // It left the selection: what the client knew, under the change's revision.
            Some(before) if left => self.frame(kind, &under(&before.bytes, e.revision)),
            _ if kind == e.change.kind && !self.converts && self.transform == Transform::None => {
                e.json()
            }
            _ => self.frame(kind, &e.change.entry.bytes),
        };
        send(to, frame).await
    }

    fn frame(&mut self, kind: ChangeKind, object: &[u8]) -> Bytes {
        if self.transform == Transform::None && !self.converts {
            return frame(kind, object);
        }
        match serde_json::from_slice::<Value>(object) {
            Ok(mut value) => {
                self.descriptor.strategy.from_stored(&mut value);
                frame(kind, self.transformed(&value).to_string().as_bytes())
            }
            Err(error) => {
                tracing::error!(%error, "an object of the cache does not parse");
                frame(kind, object)
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
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
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
        frame_named("BOOKMARK", shown.to_string().as_bytes())
    }
}
