//! Where events go: a bounded queue before a backend, whether requests wait for it, and how large an event may be.
//! Upstream: server/options/audit.go, plugin/pkg/audit/{buffered,truncate}.
//!
//! No backend can hold up the server for ever: a request that waits for one goes on after `limits::AUDIT_WAIT`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Level;
use super::counters::Counters;
use super::event::{Event, Form};
use crate::limits;

/// Whether requests wait until their events are where they go (`--audit-*-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They do not.
    Batch,
    /// They do, whatever becomes of them.
    Blocking,
    /// They do, and are refused if their beginning cannot be recorded.
    BlockingStrict,
}

/// How events are gathered (`--audit-*-batch-*`); used in batch mode alone.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// Events that wait.
    pub buffer_size: usize,
    /// Events that go together, and how long the first of them waits for others.
    pub max_size: usize,
    pub max_wait: Duration,
    /// Batches a second, and how many may go at once after a quiet time.
    pub throttle: Option<(f64, u32)>,
}

/// How large events may be (`--audit-*-truncate-*`).
#[derive(Clone, Copy, Debug)]
pub struct TruncateOptions {
    pub max_event_bytes: usize,
    pub max_batch_bytes: usize,
}

/// What is said of any backend.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    pub mode: Mode,
    pub batch: BatchOptions,
    pub truncate: Option<TruncateOptions>,
}

impl SinkOptions {
    /// A backend that nobody waits for and that takes events as they come.
    pub fn queued() -> Self {
        Self {
            mode: Mode::Batch,
            batch: BatchOptions {
                buffer_size: limits::AUDIT_EVENTS,
                max_size: 1,
                max_wait: Duration::ZERO,
                throttle: None,
            },
            truncate: None,
        }
    }
}

/// An encoded event on its way.
pub struct Line {
    pub text: Vec<u8>,
    /// Told whether it, and all before, is written.
    pub written: Option<oneshot::Sender<bool>>,
    _size: Held,
}

/// Bytes that count as queued for as long as this is held.
struct Held(Arc<AtomicUsize>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// One backend's end of the queue.
pub struct Sink {
    form: Form,
    options: SinkOptions,
    to: mpsc::Sender<Line>,
    queued: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// Tells when an event is written; `strict` if the request depends on it.
pub struct Receipt {
    strict: bool,
    told: Option<oneshot::Receiver<bool>>,
}

impl Receipt {
    /// Waits, but not for ever; false if the request must not go on.
    pub async fn settled(self) -> bool {
        let Some(told) = self.told else {
            return !self.strict;
        };
        let told = tokio::time::timeout(limits::AUDIT_WAIT, told).await;
        matches!(told, Ok(Ok(true))) || !self.strict
    }
}

// === Sink ===

impl Sink {
    /// A queue, and its other end for the backend.
    pub fn new(
        form: Form,
        options: SinkOptions,
        counters: &Arc<Counters>,
    ) -> (Self, mpsc::Receiver<Line>) {
        let (to, lines) = mpsc::channel(options.batch.buffer_size.max(1));
        let sink = Self {
            form,
            options,
            to,
            queued: Arc::default(),
            counters: counters.clone(),
        };
        (sink, lines)
    }

    /// Queues an event; a receipt where the request is to wait.
    pub fn send(&self, event: &Event) -> Option<Receipt> {
        let strict = self.options.mode == Mode::BlockingStrict;
        let lost = strict.then_some(Receipt { strict, told: None });
        let Some(text) = self.encoded(event) else {
            self.counters.failed("truncate", 1);
            return lost;
        };
        let size = text.len();
        let queued = self.queued.fetch_add(size, Ordering::Relaxed);
        let held = Held(self.queued.clone(), size);
        let (written, told) = match self.options.mode {
            Mode::Batch => (None, None),
            _ => {
                let (tell, told) = oneshot::channel();
                (Some(tell), Some(told))
            }
        };
        let line = Line {
            text,
            written,
            _size: held,
        };
        let full = queued + size > limits::AUDIT_QUEUE_BYTES;
        if full || self.to.try_send(line).is_err() {
            self.counters.failed("buffered", 1);
            return lost;
        }
        told.map(|told| Receipt {
            strict,
            told: Some(told),
        })
    }

    /// An event as the backend takes it, without its objects if it is too large with them.
    fn encoded(&self, event: &Event) -> Option<Vec<u8>> {
        let text = event.encoded(self.form);
        let Some(truncate) = self.options.truncate else {
            return Some(text);
        };
        if text.len() <= truncate.max_event_bytes {
            return Some(text);
        }
        if event.level < Level::Request {
            return None;
        }
        let text = event.truncated().encoded(self.form);
        (text.len() <= truncate.max_event_bytes).then_some(text)
    }

    /// Events that nobody took yet.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.to.max_capacity() - self.to.capacity()
    }

    /// Waits until all events so far are written.
    pub async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        let mark = Line {
            text: Vec::new(),
            written: Some(tell),
            _size: Held(self.queued.clone(), 0),
        };
        if self.to.send(mark).await.is_ok() {
            // An error means that the backend ended.
            let _ = told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(level: Level, size: usize) -> Event {
        let info = crate::request_info::RequestInfo::default();
        let mut event = Event::of(level, &info, None);
        event.request_object = Some(json!("x".repeat(size)));
        event
    }

    fn truncating(mode: Mode) -> (Sink, mpsc::Receiver<Line>, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        let options = SinkOptions {
            mode,
            truncate: Some(TruncateOptions {
                max_event_bytes: 1_000,
                max_batch_bytes: 10_000,
            }),
            ..SinkOptions::queued()
        };
        let (sink, lines) = Sink::new(Form::Json, options, &counters);
        (sink, lines, counters)
    }

    #[tokio::test]
    async fn events_that_are_too_large_lose_their_objects_or_are_lost() {
        let (sink, mut lines, counters) = truncating(Mode::Batch);
        assert!(sink.send(&event(Level::Request, 10)).is_none());
        sink.send(&event(Level::Request, 2_000));
        sink.send(&event(Level::Metadata, 2_000));
        let mut long = event(Level::Request, 0);
        long.uri = "u".repeat(2_000);
        sink.send(&long);
        let mut next = || String::from_utf8(lines.try_recv().unwrap().text).unwrap();
        let (first, second) = (next(), next());
        assert!(first.contains("requestObject") && !first.contains("truncated"));
        assert!(!second.contains("requestObject"), "{second}");
        assert!(second.contains(r#""annotations":{"audit.k8s.io/truncated":"true"}"#));
        assert!(lines.try_recv().is_err());
        let text = counters.text();
        assert!(text.contains("apiserver_audit_error_total{plugin=\"truncate\"} 2"));
    }

    #[tokio::test]
    async fn only_a_strict_backend_can_refuse_a_request() {
        for (mode, goes_on) in [(Mode::Blocking, true), (Mode::BlockingStrict, false)] {
            let (sink, mut lines, _) = truncating(mode);
            let receipt = sink.send(&event(Level::Metadata, 1)).unwrap();
            let line = lines.recv().await.unwrap();
            line.written.unwrap().send(true).unwrap();
            assert!(receipt.settled().await);
            let receipt = sink.send(&event(Level::Metadata, 1)).unwrap();
            drop(lines.recv().await);
            assert_eq!(receipt.settled().await, goes_on, "{mode:?}");
            drop(lines);
            let lost = sink.send(&event(Level::Metadata, 1));
            assert_eq!(lost.is_none(), goes_on);
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let counters = Arc::<Counters>::default();
        let (sink, mut lines) = Sink::new(Form::Json, SinkOptions::queued(), &counters);
        for _ in 0..20 {
            sink.send(&event(Level::Request, 1 << 20));
        }
        let lost = "apiserver_audit_error_total{plugin=\"buffered\"} 5";
        assert!(counters.text().contains(lost), "{}", counters.text());
        while lines.try_recv().is_ok() {}
        assert_eq!(sink.queued.load(Ordering::Relaxed), 0);
    }
}
