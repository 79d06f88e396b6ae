//! The loop: takes in changes and results, schedules one pod after the other, sleeps when there is
//! nothing to do. It alone owns cache, queue and nominations; writes run in tasks of their own.
//! Upstream: scheduler.go, eventhandlers.go, schedule_one.go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Recorder};
use tokio::sync::{mpsc, watch};

use crate::act::{self, StatusWriter};
use crate::cache::Cache;
use crate::event::ClusterEvent;
use crate::events::Events;
use crate::feeds::Feeds;
use crate::framework::{Hint, PluginIndex};
use crate::limits;
use crate::nominator::Nominator;
use crate::plugins::PLUGINS;
use crate::pod::{Pod, PodKey};
use crate::queue::{Backoff, Queue, QueuedPod, Rules};
use crate::world::World;
use crate::{Config, Error};

mod attempt;
mod intake;
#[cfg(test)]
mod tests;

/// What finished tasks tell the loop.
pub(crate) enum Message {
    /// A binding ended: well, or with the message of what failed.
    Bound(Arc<Pod>, Result<(), String>),
    /// The removal of a pod's victims failed: the pod may be tried again.
    PreemptionFailed(PodKey),
}

/// A pod on its way to its node.
struct Binding {
    queued: QueuedPod,
    node: Arc<str>,
    /// Whether work (volumes) has to be done before.
    slow: bool,
}

pub(crate) struct Scheduler {
    config: Config,
    world: Arc<World>,
    cache: Cache,
    queue: Queue,
    nominator: Nominator,
    binding: HashMap<PodKey, Binding>,
    /// Of these: bindings without work before them.
    quick: usize,
    next_start: usize,
    events: Events,
    statuses: StatusWriter,
    messages: mpsc::Sender<Message>,
    started: Instant,
}

/// The plugins as the queue asks them.
struct PluginRules<'a> {
    world: &'a World,
    /// Only pods that are no more important than this one, and not itself, listen.
    not_above: Option<&'a Pod>,
}

impl<'a> PluginRules<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            not_above: None,
        }
    }
}

impl Rules for PluginRules<'_> {
    fn gate(&self, pod: &Pod, first: Option<PluginIndex>) -> Option<PluginIndex> {
        let holds = |i: &PluginIndex| PLUGINS[*i].plugin.pre_enqueue(self.world, pod).is_err();
        first
            .filter(|i| holds(i))
            .or_else(|| (0..PLUGINS.len()).find(holds))
    }

    fn hint(&self, plugin: PluginIndex, pod: &Pod, event: &ClusterEvent<'_>) -> Option<Hint> {
        let concerned = |p: &Pod| pod.priority <= p.priority && pod.uid != p.uid;
        if !self.not_above.is_none_or(concerned) {
            return None;
        }
        let plugin = PLUGINS.get(plugin)?.plugin;
        let wakes = plugin.wakes_on();
        let registered = wakes
            .iter()
            .any(|(w, actions)| *w == event.watched && actions & event.actions != 0);
        registered.then(|| plugin.hint(self.world, pod, event))
    }
}

/// Runs the scheduler until `shutdown` becomes true.
pub(crate) async fn run(
    client: Client,
    config: Config,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut feeds = Feeds::new(&client)?;
    let (messages, mut inbox) = mpsc::channel(limits::MESSAGES);
    let recorder = Recorder::new(client.clone(), &config.scheduler_name, &config.host);
    let statuses = StatusWriter::default();
    let writer = tokio::spawn(statuses.clone().run(client.clone()));
    let mut scheduler = Scheduler {
        queue: Queue::new(Backoff {
            initial: config.backoff_initial,
            max: config.backoff_max,
        }),
        config,
        world: Arc::new(World::new(client)),
        cache: Cache::default(),
        nominator: Nominator::default(),
        binding: HashMap::new(),
        quick: 0,
        next_start: 0,
        events: Events::new(recorder),
        statuses,
        messages,
        started: Instant::now(),
    };
    for (feed, entry) in feeds.snapshot() {
        scheduler.appeared(feed, &entry);
    }
    while !*shutdown.borrow() {
        scheduler.take_in(&mut feeds, &mut inbox);
        if scheduler.may_bind()
            && let Some(queued) = scheduler.next()
        {
            scheduler.schedule(queued);
            tokio::task::yield_now().await;
            continue;
        }
        let pause = scheduler.pause();
        tokio::select! {
            input = feeds.next() => scheduler.input(input, &mut feeds),
            Some(message) = inbox.recv() => scheduler.message(message),
            () = sleep(pause) => {}
            _ = shutdown.wait_for(|s| *s) => break,
        }
    }
    writer.abort();
    Ok(())
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

// === Scheduler ===

impl Scheduler {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn next(&mut self) -> Option<QueuedPod> {
        let now = self.now();
        self.queue.pop(now, &PluginRules::new(&self.world))
    }

    /// Whether one more binding may be on its way.
    fn may_bind(&self) -> bool {
        self.quick < limits::BINDINGS && self.binding.len() < limits::BINDINGS_ALL
    }

    /// How long nothing has to be done unless something happens.
    fn pause(&self) -> Option<Duration> {
        if !self.may_bind() {
            return None;
        }
        let at = self.queue.next_at()?;
        Some(at.saturating_sub(self.now()))
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Bound(pod, result) => self.bound(&pod, result),
            Message::PreemptionFailed(key) => {
                let now = self.now();
                self.queue.force(now, &key, &PluginRules::new(&self.world));
            }
        }
    }
}

/// Tells the loop how a binding ended.
async fn tell(messages: mpsc::Sender<Message>, message: Message) {
    if messages.send(message).await.is_err() {
        tracing::debug!("the scheduler has stopped");
    }
}

/// PreBind, Bind, and the event.
async fn bind(
    world: Arc<World>,
    pod: Arc<Pod>,
    work: Vec<(&'static str, Box<dyn crate::framework::PreBind>)>,
) -> Result<(), String> {
    for (name, work) in work {
        let done = work.run().await;
        done.map_err(|r| format!("running PreBind plugin {name:?}: {}", r.message()))?;
    }
    act::bind(&world.client, &pod, &pod.node_name)
        .await
        .map_err(|e| format!("running Bind plugin \"DefaultBinder\": {e}"))
}
