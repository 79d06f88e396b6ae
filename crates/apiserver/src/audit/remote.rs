//! The webhook backend: events in batches to a server. A batch that is not taken is
//! sent again a few times; batches under way are few, so that a server that hangs costs no memory.
//! Upstream: plugin/pkg/audit/{webhook,buffered}.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::counters::Counters;
use super::event::Form;
use super::sink::{Line, Mode, Sink, SinkOptions};
use crate::limits;

/// Tries of one batch, and by how much the pause between two grows, at random by up to a fifth more: upstream's.
const TRIES: u32 = 5;
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;
const HEAD: &[u8] =
    br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;

/// Who takes batches.
#[async_trait]
pub trait Post: Send + Sync {
    /// Sends one; the error is why it was not taken.
    async fn post(&self, body: Bytes) -> Result<(), String>;
}

/// A batch that is gathered.
#[derive(Default)]
struct Batch {
    lines: Vec<Line>,
    bytes: usize,
}

/// What the loop knows.
struct Worker {
    to: Arc<dyn Post>,
    options: SinkOptions,
    backoff: Duration,
    under_way: Arc<Semaphore>,
    counters: Arc<Counters>,
    /// Batches that may go at once, and since when that is so.
    tokens: (f64, Instant),
    /// An event for which the last batch had no room.
    left: Option<Line>,
}

/// Begins to send to whoever takes batches.
pub fn start(
    to: Arc<dyn Post>,
    backoff: Duration,
    mut options: SinkOptions,
    counters: &Arc<Counters>,
) -> Sink {
    let mut at_once = limits::AUDIT_SENDS;
    if options.mode != Mode::Batch {
        // Somebody waits for each event.
        options.batch.max_size = 1;
        options.batch.throttle = None;
        at_once = limits::AUDIT_SENDS_WAITED;
    }
    let (sink, lines) = Sink::new(Form::Item, options.clone(), counters);
    let burst = options
        .batch
        .throttle
        .map_or(0.0, |(_, burst)| burst.into());
    let worker = Worker {
        to,
        options,
        backoff,
        under_way: Arc::new(Semaphore::new(at_once)),
        counters: counters.clone(),
        tokens: (burst, Instant::now()),
        left: None,
    };
    tokio::spawn(worker.run(lines, at_once));
    sink
}

// === Worker ===

impl Worker {
    async fn run(mut self, mut lines: mpsc::Receiver<Line>, at_once: usize) {
        loop {
            let (batch, mark) = self.gather(&mut lines).await;
            let ended = batch.is_none();
            if let Some(batch) = batch.filter(|b| !b.lines.is_empty()) {
                self.go(batch).await;
            }
            if ended || mark.is_some() {
                let all = u32::try_from(at_once).unwrap_or(u32::MAX);
                // The semaphore is never closed.
                let _ = self.under_way.acquire_many(all).await;
            }
            if let Some(tell) = mark {
                // Whoever asked may have gone.
                let _ = tell.send(true);
            }
            if ended {
                return;
            }
        }
    }

    /// What comes until a batch is full, its time is over, or somebody waits for it. `None` when nothing comes
    /// any more.
    async fn gather(
        &mut self,
        lines: &mut mpsc::Receiver<Line>,
    ) -> (Option<Batch>, Option<oneshot::Sender<bool>>) {
        let mut batch = Batch::default();
        let most = self.options.batch.max_size.max(1);
        let bytes = match self.options.truncate {
            Some(truncate) => truncate.max_batch_bytes,
            None => limits::AUDIT_QUEUE_BYTES,
        };
        let mut deadline = None;
        while batch.lines.len() < most {
            let line = match (self.left.take(), deadline) {
                (Some(line), _) => Some(line),
                (None, None) => lines.recv().await,
                (None, Some(at)) => match tokio::time::timeout_at(at, lines.recv()).await {
                    Ok(line) => line,
                    Err(_) => break,
                },
            };
            match line {
                None if batch.lines.is_empty() => return (None, None),
                None => break,
                Some(line) if line.text.is_empty() => return (Some(batch), line.written),
                Some(line) if batch.bytes > 0 && batch.bytes + line.text.len() > bytes => {
                    self.left = Some(line);
                    break;
                }
                Some(line) => {
                    deadline.get_or_insert(Instant::now() + self.options.batch.max_wait);
                    batch.bytes += line.text.len();
                    batch.lines.push(line);
                }
            }
        }
        (Some(batch), None)
    }

    async fn go(&mut self, batch: Batch) {
        self.throttle().await;
        let Ok(permit) = self.under_way.clone().acquire_owned().await else {
            return;
        };
        let (to, backoff, counters) = (self.to.clone(), self.backoff, self.counters.clone());
        tokio::spawn(send(to, batch, backoff, counters, permit));
    }

    /// Waits until another batch may go.
    async fn throttle(&mut self) {
        let Some(throttle) = self.options.batch.throttle else {
            return;
        };
        let (tokens, since) = self.tokens;
        let now = Instant::now();
        let (tokens, wait) = taken(tokens, now - since, throttle);
        self.tokens = (tokens, now);
        tokio::time::sleep(wait).await;
    }
}

/// One token out of a bucket: what is left, which may be a debt, and how long to wait for it.
fn taken(tokens: f64, since: Duration, (rate, burst): (f64, u32)) -> (f64, Duration) {
    let gained = since.as_secs_f64() * rate;
    let tokens = (tokens + gained).min(f64::from(burst.max(1))) - 1.0;
    let wait = (-tokens).max(0.0) / rate.max(f64::MIN_POSITIVE);
    let wait = Duration::try_from_secs_f64(wait).unwrap_or(limits::AUDIT_THROTTLE);
    (tokens, wait.min(limits::AUDIT_THROTTLE))
}

async fn send(
    to: Arc<dyn Post>,
    batch: Batch,
    backoff: Duration,
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
) {
    let texts: Vec<&[u8]> = batch.lines.iter().map(|l| &l.text[..]).collect();
    let body: Bytes = [HEAD, &texts.join(&b","[..]), b"]}\n"].concat().into();
    let mut pause = backoff;
    let mut taken = false;
    for left in (0..TRIES).rev() {
        match to.post(body.clone()).await {
            Ok(()) => {
                taken = true;
                break;
            }
            Err(error) => {
                tracing::warn!(%error, events = texts.len(), left, "an audit webhook took no events");
            }
        }
        if left > 0 {
            let more = 1.0 + JITTER * rand::rng().random::<f64>();
            tokio::time::sleep(pause.mul_f64(more)).await;
            pause = pause.mul_f64(FACTOR);
        }
    }
    if !taken {
        counters.failed("webhook", texts.len() as u64);
    }
    for written in batch.lines.into_iter().filter_map(|l| l.written) {
        // Whoever waited may have gone.
        let _ = written.send(taken);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::super::Level;
    use super::super::event::Event;
    use super::super::sink::{BatchOptions, TruncateOptions};
    use super::*;

    #[derive(Default)]
    struct Fake {
        bodies: Mutex<Vec<Value>>,
        /// Calls that are refused first.
        refuses: Mutex<u32>,
        hangs: bool,
    }

    #[async_trait]
    impl Post for Fake {
        async fn post(&self, body: Bytes) -> Result<(), String> {
            let body = serde_json::from_slice(&body).unwrap();
            self.bodies.lock().push(body);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let mut left = self.refuses.lock();
            if *left > 0 {
                *left -= 1;
                return Err("no".into());
            }
            Ok(())
        }
    }

    fn options(max_size: usize) -> SinkOptions {
        SinkOptions {
            mode: Mode::Batch,
            batch: BatchOptions {
                buffer_size: 100,
                max_size,
                max_wait: Duration::from_millis(50),
                throttle: None,
            },
            truncate: None,
        }
    }

    fn begin(fake: Fake, options: SinkOptions) -> (Arc<Fake>, Sink, Arc<Counters>) {
        let (fake, counters) = (Arc::new(fake), Arc::<Counters>::default());
        let backoff = Duration::from_millis(1);
        let sink = start(fake.clone(), backoff, options, &counters);
        (fake, sink, counters)
    }

    fn event(id: usize) -> Event {
        let info = crate::request_info::RequestInfo::default();
        let mut event = Event::of(Level::Metadata, &info, None);
        event.id = id.to_string();
        event
    }

    fn sizes(fake: &Fake) -> Vec<usize> {
        let bodies = fake.bodies.lock();
        let mut all: Vec<usize> = bodies
            .iter()
            .map(|b| b["items"].as_array().unwrap().len())
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn events_go_in_batches_when_there_are_enough_or_it_is_time() {
        let (fake, sink, _) = begin(Fake::default(), options(3));
        for i in 0..7 {
            assert!(sink.send(&event(i)).is_none());
        }
        until("the last one goes alone", || sizes(&fake) == [3, 3, 1]).await;
        let bodies = fake.bodies.lock().clone();
        let first = bodies.iter().find(|b| b["items"][0]["auditID"] == "0");
        let first = first.unwrap();
        assert_eq!(first["kind"], "EventList");
        assert_eq!(first["apiVersion"], "audit.k8s.io/v1");
        assert_eq!(first["items"][0].get("kind"), None);
        assert_eq!(first["items"][2]["auditID"], "2");
        let patient = SinkOptions {
            batch: BatchOptions {
                max_wait: Duration::from_secs(3_600),
                ..options(100).batch
            },
            truncate: Some(TruncateOptions {
                max_event_bytes: 1 << 10,
                max_batch_bytes: 2 * event(0).encoded(Form::Item).len() + 10,
            }),
            ..options(100)
        };
        let (fake, sink, _) = begin(Fake::default(), patient);
        for i in 0..5 {
            sink.send(&event(i));
        }
        sink.flush().await;
        assert_eq!(sizes(&fake), [2, 2, 1], "as many as there is room for");
    }

    #[tokio::test]
    async fn batches_that_are_refused_are_sent_again() {
        for (refuses, calls, lost) in [(4, 5, 0), (5, 5, 1)] {
            let refusing = Fake {
                refuses: Mutex::new(refuses),
                ..Fake::default()
            };
            let (fake, sink, counters) = begin(refusing, options(1));
            sink.send(&event(0));
            sink.flush().await;
            assert_eq!(sizes(&fake).len(), calls);
            let line = format!("apiserver_audit_error_total{{plugin=\"webhook\"}} {lost}");
            assert!(counters.text().contains(&line), "{}", counters.text());
        }
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_a_rate() {
        let (mut tokens, mut waited) = (15.0, Duration::ZERO);
        for _ in 0..35 {
            let (left, wait) = taken(tokens, Duration::ZERO, (10.0, 15));
            tokens = left;
            waited = wait;
        }
        assert_eq!((tokens, waited), (-20.0, Duration::from_secs(2)));
        let (left, wait) = taken(-20.0, Duration::from_secs(3_600), (10.0, 15));
        assert_eq!((left, wait), (14.0, Duration::ZERO));
        let (_, wait) = taken(0.0, Duration::ZERO, (1e-9, 1));
        assert_eq!(wait, limits::AUDIT_THROTTLE);
    }

    #[tokio::test]
    async fn a_server_that_hangs_costs_events_and_nothing_else() {
        let hanging = Fake {
            hangs: true,
            ..Fake::default()
        };
        let (fake, sink, counters) = begin(hanging, options(1));
        let sent = limits::AUDIT_SENDS;
        // As many as can be under way, and one that waits for its turn.
        for i in 0..=sent {
            sink.send(&event(i));
        }
        until("all that may be are under way", || {
            sizes(&fake).len() == sent && sink.waiting() == 0
        })
        .await;
        for i in 0..1_000 {
            sink.send(&event(i));
        }
        let line = "apiserver_audit_error_total{plugin=\"buffered\"} 900";
        assert!(counters.text().contains(line), "{}", counters.text());
        assert_eq!(sizes(&fake).len(), sent);
    }
}
