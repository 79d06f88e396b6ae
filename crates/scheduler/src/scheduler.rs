//! The loop: takes in changes and results, schedules one pod after the other, sleeps when there is
//! nothing to do. It alone owns cache, queue and nominations; writes run in tasks of their own.
//! Upstream: scheduler.go, eventhandlers.go, schedule_one.go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Change, ChangeKind, Client, Entry, Recorder};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};

use crate::act::{self, StatusWriter};
use crate::cache::Cache;
use crate::event::{self, ClusterEvent, Object, Watched};
use crate::events::Events;
use crate::feeds::{Feed, Feeds, Input};
use crate::framework::{Hint, PluginIndex};
use crate::limits;
use crate::node::Node;
use crate::nominator::Nominator;
use crate::plugins::PLUGINS;
use crate::pod::{Pod, PodKey};
use crate::queue::{Backoff, Queue, QueuedPod, Rules};
use crate::world::World;
use crate::{Config, Error};

mod attempt;
#[cfg(test)]
mod tests;

/// What finished tasks tell the loop.
pub(crate) enum Message {
    /// A binding ended: well, or with the message of what failed.
    Bound(PodKey, Result<(), String>),
    /// The removal of a pod's victims failed: the pod may be tried again.
    PreemptionFailed(PodKey),
}

/// A pod on its way to its node.
struct Binding {
    queued: QueuedPod,
    node: Arc<str>,
}

pub(crate) struct Scheduler {
    config: Config,
    world: Arc<World>,
    cache: Cache,
    queue: Queue,
    nominator: Nominator,
    binding: HashMap<PodKey, Binding>,
    next_start: usize,
    events: Events,
    statuses: StatusWriter,
    messages: mpsc::Sender<Message>,
    started: Instant,
}

/// The plugins as the queue asks them.
struct PluginRules<'a>(&'a World);

impl Rules for PluginRules<'_> {
    fn gate(&self, pod: &Pod, first: Option<PluginIndex>) -> Option<PluginIndex> {
        let holds = |i: &PluginIndex| PLUGINS[*i].plugin.pre_enqueue(self.0, pod).is_err();
        first
            .filter(|i| holds(i))
            .or_else(|| (0..PLUGINS.len()).find(holds))
    }

    fn hint(&self, plugin: PluginIndex, pod: &Pod, event: &ClusterEvent<'_>) -> Option<Hint> {
        let plugin = PLUGINS.get(plugin)?.plugin;
        let wakes = plugin.wakes_on();
        let registered = wakes
            .iter()
            .any(|(w, actions)| *w == event.watched && actions & event.actions != 0);
        registered.then(|| plugin.hint(self.0, pod, event))
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
        if scheduler.binding.len() < limits::BINDINGS
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

// === Scheduler: what comes in ===

impl Scheduler {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn rules(world: &World) -> PluginRules<'_> {
        PluginRules(world)
    }

    fn next(&mut self) -> Option<QueuedPod> {
        let now = self.now();
        self.queue.pop(now, &Self::rules(&self.world))
    }

    /// How long nothing has to be done unless something happens.
    fn pause(&self) -> Option<Duration> {
        if self.binding.len() >= limits::BINDINGS {
            return None;
        }
        let at = self.queue.next_at()?;
        Some(at.saturating_sub(self.now()))
    }

    /// Takes what is there without waiting.
    fn take_in(&mut self, feeds: &mut Feeds, inbox: &mut mpsc::Receiver<Message>) {
        while let Ok(message) = inbox.try_recv() {
            self.message(message);
        }
        for _ in 0..limits::CHANGES_AT_ONCE {
            match feeds.next().now_or_never() {
                Some(input) => self.input(input, feeds),
                None => break,
            }
        }
    }

    fn input(&mut self, input: Input, feeds: &mut Feeds) {
        match input {
            Input::Change(feed, change) => self.changed(feed, &change),
            Input::Relisted(feed, snapshot) => self.relisted(feed, &snapshot),
            Input::Ended(feed) => feeds.resubscribe(feed),
        }
    }

    /// A feed lost changes and starts anew: what is no longer there has gone.
    fn relisted(&mut self, feed: Feed, snapshot: &[Arc<Entry>]) {
        match feed {
            Feed::Pods => {
                let there: std::collections::HashSet<PodKey> = snapshot
                    .iter()
                    .map(|e| PodKey::new(&e.namespace, &e.name))
                    .collect();
                let known = self.queue.keys().chain(self.cache.keys());
                let gone: Vec<PodKey> = known.filter(|k| !there.contains(*k)).cloned().collect();
                for key in gone {
                    self.pod_gone(&key);
                }
            }
            Feed::Nodes => {
                let nodes = self.cache.snapshot.nodes().iter();
                let gone: Vec<Arc<str>> = nodes
                    .map(|n| n.node.name.clone())
                    .filter(|name| !snapshot.iter().any(|e| *e.name == **name))
                    .collect();
                for name in gone {
                    self.node_gone(&name);
                }
            }
            Feed::Other(_) => self.happened(&ClusterEvent::everything()),
        }
        if !matches!(feed, Feed::Other(_)) {
            for entry in snapshot {
                self.appeared(feed, entry);
            }
        }
    }

    fn appeared(&mut self, feed: Feed, entry: &Arc<Entry>) {
        match feed {
            Feed::Pods => self.pod_entry(entry),
            Feed::Nodes => self.node_entry(entry),
            Feed::Other(_) => {}
        }
    }

    fn changed(&mut self, feed: Feed, change: &Change) {
        let gone = change.kind == ChangeKind::Deleted;
        match feed {
            Feed::Pods if gone => {
                self.pod_gone(&PodKey::new(&change.entry.namespace, &change.entry.name));
            }
            Feed::Pods => self.pod_entry(&change.entry),
            Feed::Nodes if gone => self.node_gone(&change.entry.name),
            Feed::Nodes => self.node_entry(&change.entry),
            Feed::Other(watched) => {
                let (before, after, actions) = match change.kind {
                    ChangeKind::Added => (None, Some(&*change.entry), event::ADD),
                    ChangeKind::Modified => (
                        change.before.as_deref(),
                        Some(&*change.entry),
                        event::UPDATE,
                    ),
                    ChangeKind::Deleted => (Some(&*change.entry), None, event::DELETE),
                };
                self.happened(&ClusterEvent {
                    watched,
                    actions,
                    object: Object::Other(before, after),
                });
            }
        }
    }

    /// Lets the waiting pods know.
    fn happened(&mut self, event: &ClusterEvent<'_>) {
        let now = self.now();
        self.queue.on_event(now, event, &Self::rules(&self.world));
    }

    fn node_entry(&mut self, entry: &Entry) {
        let node = match Node::parse(entry) {
            Ok(node) => Arc::new(node),
            Err(error) => {
                tracing::error!(node = %entry.name, %error, "stored node does not parse");
                return;
            }
        };
        let before = self.cache.set_node(node.clone());
        let actions = match &before {
            None => event::ADD,
            Some(before) => event::node_actions(before, &node),
        };
        if actions != 0 {
            self.happened(&ClusterEvent {
                watched: Watched::Node,
                actions,
                object: Object::Node(before.as_deref(), Some(&node)),
            });
        }
    }

    fn node_gone(&mut self, name: &str) {
        let Some(node) = self.cache.remove_node(name) else {
            return;
        };
        self.happened(&ClusterEvent {
            watched: Watched::Node,
            actions: event::DELETE,
            object: Object::Node(Some(&node), None),
        });
    }

    fn pod_entry(&mut self, entry: &Entry) {
        let pod = match Pod::parse(entry) {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(pod = %entry.key(), %error, "stored pod does not parse");
                return;
            }
        };
        let known = self
            .cache
            .get(&pod.key)
            .or_else(|| self.queue.get(&pod.key));
        if pod.is_terminal() || known.is_some_and(|k| k.uid != pod.uid) {
            // An ended pod counts as gone, a recreated one as another.
            self.pod_gone(&pod.key);
        }
        if pod.is_terminal() {
            return;
        }
        if !pod.node_name.is_empty() {
            self.pod_assigned(pod);
        } else if *pod.scheduler_name == *self.config.scheduler_name {
            self.pod_waits(pod);
        }
    }

    /// The API says that a pod has a node.
    fn pod_assigned(&mut self, pod: Arc<Pod>) {
        self.queue.delete(&pod.key);
        self.nominator.remove(&pod.key);
        let was_assumed = self.cache.is_assumed(&pod.key);
        let before = self.cache.set(pod.clone());
        match before.filter(|_| !was_assumed) {
            None => self.happened(&ClusterEvent::assigned(event::ADD, None, Some(&pod))),
            Some(before) => {
                let actions = event::pod_actions(&before, &pod);
                let both = ClusterEvent::assigned(actions, Some(&before), Some(&pod));
                self.happened(&both);
            }
        }
    }

    /// The API says that a pod has no node yet.
    fn pod_waits(&mut self, pod: Arc<Pod>) {
        if self.cache.is_assumed(&pod.key) {
            return;
        }
        let now = self.now();
        let before = self.queue.get(&pod.key).cloned();
        let rules = PluginRules(&self.world);
        let Some(before) = before else {
            self.nominator.set(&pod, &pod.nominated_node);
            self.queue.add(now, pod.clone(), &rules);
            let added = ClusterEvent {
                watched: Watched::UnschedulablePod,
                actions: event::ADD,
                object: Object::Pod(None, Some(&pod)),
            };
            self.queue.on_event(now, &added, &rules);
            return;
        };
        let node = self.nominator.node_of(&pod.key).map(String::from);
        if before.nominated_node != pod.nominated_node {
            self.nominator.set(&pod, &pod.nominated_node);
        } else if let Some(node) = node {
            // A nomination that so far only this process knows stays.
            self.nominator.set(&pod, &node);
        }
        let update = ClusterEvent {
            watched: Watched::UnschedulablePod,
            actions: event::pod_actions(&before, &pod),
            object: Object::Pod(Some(&before), Some(&pod)),
        };
        self.queue.update(now, pod.clone(), &update, &rules);
        if !before.nominated_node.is_empty() && before.nominated_node != pod.nominated_node {
            self.room_made(&before);
        }
    }

    fn pod_gone(&mut self, key: &PodKey) {
        let waiting = self.queue.delete(key);
        let nominated = self.nominator.remove(key).is_some();
        if let Some(pod) = self.cache.remove(key) {
            self.happened(&ClusterEvent::assigned(event::DELETE, Some(&pod), None));
        }
        if let Some(pod) = waiting {
            self.world.preempting.lock().remove(&pod.uid);
            if nominated {
                self.room_made(&pod);
            }
        }
    }

    /// A pod no longer waits for its nominated node: as good as a deletion for others.
    fn room_made(&mut self, pod: &Pod) {
        self.happened(&ClusterEvent::assigned(event::DELETE, Some(pod), None));
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Bound(key, result) => self.bound(&key, result),
            Message::PreemptionFailed(key) => {
                let now = self.now();
                self.queue.force(now, &key, &PluginRules(&self.world));
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
