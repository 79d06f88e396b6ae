//! Watches: one gRPC stream each, which is opened anew after a break where it stopped, so that the
//! watcher sees neither gap nor duplicate and does not notice.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::call::{self, Caller, Method};
use super::convert::{Prefix, number, to_i64};
use super::proto::{
    self, WatchCreateRequest, WatchKind, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::backend::WatchStream;
use crate::error::Error;
use crate::limits;
use crate::types::{Range, WatchBatch};

const WATCH: Method = Method::read("/etcdserverpb.Watch/Watch", "watch");

/// The request sides of all open watches, for progress requests.
#[derive(Clone, Default)]
pub struct Watches(Arc<Mutex<Vec<mpsc::WeakSender<WatchRequest>>>>);

impl Watches {
    fn add(&self, requests: &mpsc::Sender<WatchRequest>) {
        let mut all = self.0.lock();
        all.retain(|w| w.upgrade().is_some_and(|s| !s.is_closed()));
        all.push(requests.downgrade());
    }

    /// Asks for the progress of every watch.
    pub fn request_progress(&self) {
        let all = self.0.lock();
        for requests in all.iter().filter_map(mpsc::WeakSender::upgrade) {
            let kind = Some(WatchKind::Progress(WatchProgressRequest {}));
            // Where requests wait already, one more adds nothing.
            let _ = requests.try_send(WatchRequest { kind });
        }
    }
}

/// A watch and where it is.
pub struct Watching {
    caller: Caller,
    prefix: Prefix,
    watches: Watches,
    range: Range,
    /// The first revision not seen yet; 0 until etcd has told where "now" is.
    next: u64,
    stream: Option<Open>,
    ready: VecDeque<WatchBatch>,
    failed: bool,
}

/// An open stream. Its requests end, and with them the watch, when it is dropped.
struct Open {
    /// Whose answers they are.
    member: usize,
    answers: Streaming<WatchResponse>,
    _requests: mpsc::Sender<WatchRequest>,
    /// Events of an answer that comes in parts.
    parts: Vec<proto::Event>,
}

/// Why a stream cannot go on.
enum Broken {
    /// It is opened again.
    Passing(Status),
    Final(Error),
}

impl Watching {
    pub fn new(
        caller: Caller,
        prefix: Prefix,
        watches: Watches,
        range: Range,
        start_revision: u64,
    ) -> Self {
        Self {
            caller,
            prefix,
            watches,
            range,
            next: start_revision,
            stream: None,
            ready: VecDeque::new(),
            failed: false,
        }
    }

    /// Opens the watch: when this returns, etcd has it.
    pub async fn open_first(mut self) -> Result<WatchStream, Error> {
        let opened = tokio::time::timeout(limits::ETCD_CALL, self.reopen()).await;
        opened.map_err(|_| Error::Backend {
            operation: "watch",
            message: "not opened in time".into(),
        })??;
        let stream = futures::stream::unfold(self, |mut w| async move {
            let item = w.item().await?;
            Some((item, w))
        });
        Ok(stream.boxed())
    }

    /// The next batch; nothing after an error.
    async fn item(&mut self) -> Option<Result<WatchBatch, Error>> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            let more = match self.stream {
                Some(_) => self.read().await,
                None => self.reopen().await.map_err(Broken::Final),
            };
            match more {
                Ok(()) => {}
                Err(Broken::Passing(status)) => {
                    tracing::warn!(%status, next = self.next, "watch of etcd broke, it is resumed");
                    if let Some(open) = self.stream.take() {
                        self.caller.broke(open.member, &status);
                    }
                }
                Err(Broken::Final(e)) => {
                    self.failed = true;
                    return Some(Err(e));
                }
            }
        }
    }

    /// Opens the stream, however long that takes.
    async fn reopen(&mut self) -> Result<(), Error> {
        let mut pause = call::FIRST_PAUSE;
        loop {
            match self.open().await {
                Ok(()) => return Ok(()),
                Err(Broken::Final(e)) => return Err(e),
                Err(Broken::Passing(status)) => {
                    tracing::debug!(%status, "watch of etcd cannot be opened yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(call::LAST_PAUSE);
        }
    }

    async fn open(&mut self) -> Result<(), Broken> {
        let (key, range_end) = self.prefix.bounds(&self.range.key, &self.range.end);
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: to_i64(self.next),
            prev_kv: true,
            fragment: true,
        };
        let (requests, member, mut answers) = open(&self.caller, create).await?;
        let first = message(&mut answers).await;
        if let Err(Broken::Passing(status)) = &first {
            self.caller.broke(member, status);
        }
        let first = first?;
        cancelled(&first)?;
        if self.next == 0 {
            self.next = number(first.header.map_or(0, |h| h.revision)) + 1;
        }
        self.watches.add(&requests);
        self.stream = Some(Open {
            member,
            answers,
            _requests: requests,
            parts: Vec::new(),
        });
        Ok(())
    }

    /// Reads one answer into `ready`.
    async fn read(&mut self) -> Result<(), Broken> {
        let Some(open) = &mut self.stream else {
            return Ok(());
        };
        let answer = message(&mut open.answers).await?;
        cancelled(&answer)?;
        let silent = answer.events.is_empty() && open.parts.is_empty();
        open.parts.extend(answer.events);
        if answer.fragment {
            return Ok(());
        }
        let events = std::mem::take(&mut open.parts);
        if silent && !answer.created {
            let revision = number(answer.header.map_or(0, |h| h.revision));
            self.next = self.next.max(revision + 1);
            let events = Vec::new();
            self.ready.push_back(WatchBatch { revision, events });
        }
        for (revision, event) in events.into_iter().filter_map(|e| self.prefix.event(e)) {
            match self.ready.back_mut() {
                Some(last) if last.revision == revision => last.events.push(event),
                _ => self.ready.push_back(WatchBatch {
                    revision,
                    events: vec![event],
                }),
            }
            self.next = self.next.max(revision + 1);
        }
        Ok(())
    }
}

/// The revision that etcd's history is compacted to: what a watch from the beginning is told.
pub async fn compact_revision(caller: &Caller) -> Result<u64, Error> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(&[0]),
        start_revision: 1,
        ..Default::default()
    };
    let ask = async {
        let (_requests, _, mut answers) = open(caller, create).await?;
        loop {
            cancelled(&message(&mut answers).await?)?;
        }
    };
    let told: Result<Result<std::convert::Infallible, Broken>, _> =
        tokio::time::timeout(limits::ETCD_CALL, ask).await;
    let message = match told {
        Ok(Err(Broken::Final(Error::Compacted { compact_revision }))) => {
            return Ok(compact_revision);
        }
        Ok(Err(Broken::Final(e))) => return Err(e),
        Ok(Err(Broken::Passing(status))) => call::told(&status),
        Err(_) => "not told in time".into(),
    };
    Err(Error::Backend {
        operation: "compact revision",
        message,
    })
}

async fn open(
    caller: &Caller,
    create: WatchCreateRequest,
) -> Result<(mpsc::Sender<WatchRequest>, usize, Streaming<WatchResponse>), Broken> {
    let (requests, waiting) = mpsc::channel(limits::ETCD_WATCH_REQUESTS);
    let kind = Some(WatchKind::Create(create));
    requests
        .try_send(WatchRequest { kind })
        .map_err(|e| Broken::Passing(Status::internal(e.to_string())))?;
    let (member, answers) = caller
        .open::<WatchRequest, WatchResponse>(WATCH, ReceiverStream::new(waiting))
        .await
        .map_err(broken)?;
    Ok((requests, member, answers))
}

async fn message(answers: &mut Streaming<WatchResponse>) -> Result<WatchResponse, Broken> {
    match answers.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Broken::Passing(Status::unavailable("the stream ended"))),
        Err(status) => Err(broken(status)),
    }
}

/// An answer that ends the watch.
fn cancelled(answer: &WatchResponse) -> Result<(), Broken> {
    if answer.compact_revision != 0 {
        return Err(Broken::Final(Error::Compacted {
            compact_revision: number(answer.compact_revision),
        }));
    }
    if !answer.canceled {
        return Ok(());
    }
    let reason = answer.cancel_reason.clone();
    // A member that lost its leader cancels; another one, or the same one later, takes over.
    if reason.contains("leader") || reason.is_empty() {
        return Err(Broken::Passing(Status::unavailable(reason)));
    }
    Err(Broken::Final(Error::Backend {
        operation: "watch",
        message: reason,
    }))
}

fn broken(status: Status) -> Broken {
    if let Some(error) = call::known(&status) {
        return Broken::Final(error);
    }
    if call::may_pass(&status) {
        return Broken::Passing(status);
    }
    Broken::Final(Error::Backend {
        operation: "watch",
        message: call::told(&status),
    })
}
