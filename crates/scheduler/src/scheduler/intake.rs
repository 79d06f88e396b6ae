//! What comes in: changes of objects, turned into the state of cache and queue and into cluster events.
//! Upstream: eventhandlers.go.

use std::collections::HashSet;
use std::sync::Arc;

use client::{Change, ChangeKind, Entry};
use futures::FutureExt;
use tokio::sync::mpsc;

use super::{Message, PluginRules, Scheduler};
use crate::event::{self, ClusterEvent, Object, Watched};
use crate::feeds::{Feed, Feeds, Input};
use crate::limits;
use crate::node::Node;
use crate::pod::{Pod, PodKey};

impl Scheduler {
    /// Takes what is there without waiting.
    pub(super) fn take_in(&mut self, feeds: &mut Feeds, inbox: &mut mpsc::Receiver<Message>) {
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

    pub(super) fn input(&mut self, input: Input, feeds: &mut Feeds) {
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
                let there: HashSet<PodKey> = snapshot
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

    pub(super) fn appeared(&mut self, feed: Feed, entry: &Arc<Entry>) {
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
        self.queue
            .on_event(now, event, &PluginRules::new(&self.world));
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
        let rules = PluginRules::new(&self.world);
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

    /// A pod no longer waits for its nominated node: as good as a deletion for others
    /// that are not more important.
    fn room_made(&mut self, pod: &Pod) {
        let rules = PluginRules {
            not_above: Some(pod),
            ..PluginRules::new(&self.world)
        };
        let deleted = ClusterEvent::assigned(event::DELETE, Some(pod), None);
        let now = self.now();
        self.queue.on_event(now, &deleted, &rules);
    }
}
