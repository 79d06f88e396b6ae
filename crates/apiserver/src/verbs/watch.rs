//! WATCH: a stream of changes from the cache. Upstream: apiserver handlers/watch.go and the
//! watch cache; api-semantics §7.

mod options;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use client::ChangeKind;
use machinery::ApiError;
use tokio::time::Instant;

use crate::body;
use crate::cache::{Begun, Broken, CutOff, History, Start, Step, TooOld, WatchCache};
use crate::call::Call;
use crate::connect::websocket::{self, Messages};
use crate::conversion;
use crate::fairness::Seat;
use crate::filter::Filter;
use crate::frames::{Frames, Made};
use crate::gzip;
use crate::limits;
use crate::list_options::ListOptions;
use crate::negotiate::{Media, Transform};
use crate::response::{self, Answer};
use crate::server::Inner;
use crate::transform::IncludeObject;
use options::{From, Options};
use writer::Writer;

/// Begins a watch and streams it: as chunks, or as messages where the client asks for a WebSocket.
pub async fn watch(call: &Call) -> Result<Answer, ApiError> {
    let list_options = ListOptions::of(call)?;
    let options = Options::of(&list_options)?;
    let filter = Filter::with(call, &list_options);
    let include = match call.format.transform {
        Transform::Table(_) => IncludeObject::parse(call.query.get("includeObject"))?,
        _ => IncludeObject::Metadata,
    };
    let media = call.format.media;
    if media == Media::Yaml {
        let json = "application/json;stream=watch";
        let protobuf = "application/vnd.kubernetes.protobuf;stream=watch";
        let all = [json, protobuf, "application/cbor-seq"];
        let known = if call.server.serves_cbor() { 3 } else { 2 };
        return Err(ApiError::not_acceptable(&all[..known]));
    }
    let cache = call.cache()?.clone();
    let shows = conversion::selects_shown(call.descriptor())
        && (filter.names_fields() || call.descriptor().strategy.converter().is_some());
    let mut writer = Writer {
        shown_by: shows.then(|| call.server.clone()),
        media,
        filter,
        transform: call.format.transform.clone(),
        include,
        descriptor: call.descriptor().clone(),
        converts: call.descriptor().strategy.converts(),
        columns_sent: false,
        sent: call.server.streams.of(call.descriptor()),
    };
    // What is wrong from here on is an event.
    let begun = match place(call, &cache, options.start).await {
        Ok(start) => cache.begin(start),
        Err(error) => {
            let frame = writer.named("ERROR", &error.to_status());
            let only = |to: Frames| async move { to.send(frame).await };
            return Ok(answer(call, options, only));
        }
    };
    let server = call.server.clone();
    let seat = call.take_seat();
    Ok(answer(call, options, |to| async move {
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
            // However it ends, the client resumes.
            let work = run(&mut writer, begun, (options, seat), &server, &to);
            let mut shutdown = server.shutdown.subscribe();
            tokio::select! {
                _ = work => {}
                // The stream ends as after its timeout: the client resumes elsewhere, or later.
                _ = shutdown.wait_for(|down| *down) => {}
            }
        }
    }))
}

/// Where in the cache a watch begins, once the cache is as new as it must be.
async fn place(call: &Call, cache: &WatchCache, start: From) -> Result<Start, ApiError> {
    Ok(match start {
        From::Snapshot(version) => {
            let version = version.map(|v| v.to_string());
            call.server.wait_fresh(cache, version.as_deref()).await?;
            Start::Snapshot
        }
        From::Now => {
            let newest = call.server.store.revision().await;
            Start::After(newest.map_err(ApiError::internal)?)
        }
        From::CacheNow => Start::After(client::Cache::revision(cache)),
        From::After(version) => Start::After(version),
    })
}

/// The answer that streams what `make` sends.
fn answer<F>(call: &Call, options: Options, make: impl FnOnce(Frames) -> F) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let media = call.format.media;
    if let Some(upgrade) = call.take_websocket() {
        let answer = match websocket::plain_handshake(&call.headers) {
            Ok(answer) => answer,
            Err(refused) => return *refused,
        };
        let messages = match media {
            Media::Protobuf => Messages::Framed,
            Media::Cbor => Messages::Binary,
            _ => Messages::Text,
        };
        let frames = body::stream(Made::by(false, make));
        tokio::spawn(websocket::send(upgrade, frames, messages));
        return answer;
    }
    let content = match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        // One item after the other is another type than one item.
        Media::Cbor => "application/cbor-seq",
        _ => Media::Json.text(),
    };
    let mut answer = response::bytes(200, content, Bytes::new());
    let frames = Made::by(true, make);
    let packs = || call.server.enables("WatchListCompression");
    if options.initial && gzip::is_wanted(&call.headers) && packs() {
        gzip::mark(answer.headers_mut());
        *answer.body_mut() = gzip::stream(frames);
    } else {
        *answer.body_mut() = body::stream(frames);
    }
    answer
}

/// The watch ends here.
struct Gone;

impl std::convert::From<CutOff> for Gone {
    fn from(_: CutOff) -> Self {
        Self
    }
}

/// Sends an event, which is counted.
async fn send_event(w: &Writer, to: &Frames, frame: Bytes) -> Result<(), Gone> {
    if let Transform::PartialMetadataList(_) = w.transform {
        // An object is no list: upstream ends a watch with the first event that it cannot write.
        return Err(Gone);
    }
    w.sent.event(frame.len());
    to.send(frame).await;
    Ok(())
}

/// Sends what the cache does not remember from the store's history; gives the cache's part that follows.
async fn catch_up(
    w: &mut Writer,
    server: &Inner,
    cache: &Arc<WatchCache>,
    after: u64,
    to: &Frames,
) -> Result<Begun, Gone> {
    let _place = server.histories.acquire().await.map_err(|_| Gone)?;
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
            to.send(frame).await;
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
    to: &Frames,
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
    if options.initial {
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
    let bookmark = tokio::time::sleep_until(end.min(Instant::now() + limits::BOOKMARK_EVERY));
    let mut bookmark = std::pin::pin!(bookmark);
    loop {
        tokio::select! {
            event = begun.live.next() => {
                let event = event?;
                // Known already, or from before a version from the future.
                if event.revision > after {
                    w.event(&event, to).await?;
                }
            }
            () = bookmark.as_mut() => {
                // Taken before the changes are looked at: a bookmark promises that all before was sent.
                let revision = after.max(*progress.borrow());
                while let Some(event) = begun.live.try_next()? {
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
                let next = end.min(Instant::now() + limits::BOOKMARK_EVERY);
                bookmark.as_mut().reset(next);
            }
        }
    }
}
