//! The loop of one reconciler.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use client::{ChangeKind, Reads};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::stats::{Board, Stats};
use crate::trigger::{Event, Trigger};
use crate::{Backoff, Error, Key, Queue, limits};

/// What comes after a good run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Done,
    /// Another run after this long, if nothing changes before.
    After(Duration),
}

/// Brings the cluster nearer to what one key asks for. Running twice equals running once.
#[async_trait]
pub trait Reconcile: Send + Sync + 'static {
    /// One run.
    async fn reconcile(&self, key: &Key) -> Result<Next, Error>;
}

/// A task beside the triggers that queues keys by its own lights; it ends at shutdown.
pub type Source = Box<dyn FnOnce(Waker) -> BoxFuture<'static, ()> + Send>;

/// One controller, ready to run.
pub struct Reconciler {
    pub name: &'static str,
    pub workers: usize,
    pub backoff: Backoff,
    /// Failures after which a key is dropped until something changes.
    pub retries: Option<u32>,
    pub triggers: Vec<Trigger>,
    pub sources: Vec<Source>,
    pub reconcile: Arc<dyn Reconcile>,
}

/// What reconcilers of a process share.
#[derive(Clone)]
pub struct Env {
    pub reads: Arc<dyn Reads>,
    /// True while this process may act.
    pub leader: watch::Receiver<bool>,
    /// Turns true once, at the end.
    pub shutdown: watch::Receiver<bool>,
    pub board: Board,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

/// Queues keys from outside. Cheap to clone.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

// === Next ===

impl Next {
    /// The earlier of two.
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (Self::Done, next) | (next, Self::Done) => next,
        }
    }
}

impl From<Option<Duration>> for Next {
    fn from(after: Option<Duration>) -> Self {
        after.map_or(Self::Done, Self::After)
    }
}

// === Waker ===

impl Waker {
    fn new(backoff: Backoff) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(backoff)),
            changed: Notify::new(),
        }))
    }

    /// Queues a key.
    pub fn wake(&self, key: Key, after: Duration) {
        let mut queue = self.0.queue.lock();
        if after.is_zero() {
            queue.add(key);
        } else {
            queue.add_at(key, Instant::now() + after);
        }
        drop(queue);
        self.0.changed.notify_one();
    }
}

// === Reconciler ===

impl Reconciler {
    /// A reconciler with upstream's usual retries.
    pub fn new(name: &'static str, workers: usize, reconcile: impl Reconcile) -> Self {
        Self {
            name,
            workers,
            backoff: Backoff::default(),
            retries: None,
            triggers: Vec::new(),
            sources: Vec::new(),
            reconcile: Arc::new(reconcile),
        }
    }

    /// Adds a trigger.
    pub fn on(mut self, trigger: Trigger) -> Self {
        self.triggers.push(trigger);
        self
    }

    /// Adds a source of its own.
    pub fn source(
        mut self,
        source: impl FnOnce(Waker) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Sets the back-off of failing keys.
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.backoff = Backoff { base, max };
        self
    }

    /// Drops a key after so many failures in a row.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Runs until shutdown; runs under way end at their next wait.
    pub async fn run(self, mut env: Env) {
        let waker = Waker::new(self.backoff);
        let stats = env.board.add(self.name);
        let mut pumps = JoinSet::new();
        let resync = Arc::new(watch::channel(0u64).0);
        for trigger in self.triggers.clone() {
            pumps.spawn(pump(
                trigger,
                env.reads.clone(),
                waker.clone(),
                resync.clone(),
            ));
        }
        let worker = Worker {
            name: self.name,
            retries: self.retries,
            reconcile: self.reconcile,
            waker: waker.clone(),
            stats,
        };
        for source in self.sources {
            pumps.spawn(source(waker.clone()));
        }
        let mut shutdown = env.shutdown.clone();
        tokio::select! {
            () = dispatch(worker, self.workers, &mut env) => {}
            _ = shutdown.wait_for(|end| *end) => {}
        }
        pumps.shutdown().await;
    }
}

#[derive(Clone)]
struct Worker {
    name: &'static str,
    retries: Option<u32>,
    reconcile: Arc<dyn Reconcile>,
    waker: Waker,
    stats: Arc<Stats>,
}

/// Hands keys to workers for ever. Dropping it ends the runs under way.
async fn dispatch(worker: Worker, limit: usize, env: &mut Env) {
    let mut running = JoinSet::new();
    loop {
        if env.leader.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        while running.len() < limit {
            let taken = worker.waker.0.queue.lock().take(Instant::now());
            let Some(key) = taken else { break };
            running.spawn(worker.clone().work(key));
        }
        let due = worker.waker.0.queue.lock().next_due();
        let timer = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let room = running.len() < limit;
        tokio::select! {
            () = worker.waker.0.changed.notified(), if room => {}
            () = timer, if room => {}
            Some(_) = running.join_next() => {}
        }
    }
}

impl Worker {
    async fn work(self, key: Key) {
        let span = tracing::debug_span!("reconcile", controller = self.name, key = %key);
        let run = AssertUnwindSafe(self.reconcile.reconcile(&key)).catch_unwind();
        let result = run.instrument(span).await;
        let now = Instant::now();
        let mut queue = self.waker.0.queue.lock();
        match result {
            Ok(Ok(next)) => {
                queue.forget(&key);
                if let Next::After(delay) = next {
                    queue.add_at(key.clone(), now + delay);
                }
            }
            Ok(Err(error)) => self.failed(&mut queue, &key, &error, now),
            Err(_) => {
                self.stats.panicked();
                let (_, delay) = queue.add_failed(key.clone(), now);
                tracing::error!(controller = self.name, %key, ?delay, "reconcile panicked, will retry");
            }
        }
        queue.done(&key);
        self.stats.ran(queue.len());
        drop(queue);
        self.waker.0.changed.notify_one();
    }

    fn failed(&self, queue: &mut Queue, key: &Key, error: &Error, now: Instant) {
        self.stats.failed(&error.to_string());
        if self.retries.is_some_and(|most| queue.failures(key) >= most) {
            queue.forget(key);
            tracing::warn!(controller = self.name, %key, %error, "reconcile failed too often, dropped");
            return;
        }
        let (failures, delay) = queue.add_failed(key.clone(), now);
        if error.is_conflict() || failures < 3 {
            tracing::debug!(controller = self.name, %key, %error, ?delay, "reconcile will be retried");
        } else {
            tracing::warn!(controller = self.name, %key, %error, ?delay, "reconcile failed, will retry");
        }
    }
}

/// Feeds one trigger for ever. When its subscription lagged, all triggers of the reconciler read
/// everything anew: what was missed is found from the objects that are left.
async fn pump(
    trigger: Trigger,
    reads: Arc<dyn Reads>,
    waker: Waker,
    resync: Arc<watch::Sender<u64>>,
) {
    let mut served = reads.resources_changed();
    loop {
        served.mark_unchanged();
        let Some(cache) = reads.cache(&trigger.resource) else {
            if served.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut again = resync.subscribe();
        let mut sub = cache.subscribe();
        for entry in std::mem::take(&mut sub.snapshot) {
            let event = Event {
                kind: ChangeKind::Added,
                entry: &entry,
                before: None,
            };
            feed(&trigger, &event, &waker);
        }
        loop {
            tokio::select! {
                change = sub.changes.recv() => {
                    let Some(change) = change else {
                        tokio::time::sleep(limits::RESUBSCRIBE).await;
                        resync.send_modify(|n| *n += 1);
                        break;
                    };
                    let event = Event {
                        kind: change.kind,
                        entry: &change.entry,
                        before: change.before.as_ref(),
                    };
                    feed(&trigger, &event, &waker);
                }
                _ = again.changed() => break,
            }
        }
    }
}

fn feed(trigger: &Trigger, event: &Event<'_>, waker: &Waker) {
    let mapped = std::panic::catch_unwind(AssertUnwindSafe(|| trigger.wakes(event)));
    match mapped {
        Ok(wakes) => {
            for wake in wakes {
                waker.wake(wake.key, wake.after);
            }
        }
        Err(_) => {
            tracing::error!(resource = %trigger.resource, object = %event.entry.key(), "a trigger panicked");
        }
    }
}

#[cfg(test)]
mod tests;
