//! Pods that wait for a node: to be tried now (active), after a pause (backoff), or when something
//! happens that helps (unschedulable, gated ones included). Time is an argument, counted from the
//! start of the process. Upstream: scheduler internal/queue, PrioritySort.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::event::ClusterEvent;
use crate::framework::{Hint, PluginIndex, PluginSet};
use crate::limits;
use crate::pod::{Pod, PodKey};

#[cfg(test)]
mod tests;

/// A pod with what its attempts taught.
#[derive(Clone, Debug)]
pub struct QueuedPod {
    pub pod: Arc<Pod>,
    /// When it last came into the queue.
    pub timestamp: Duration,
    pub attempts: u32,
    /// When it first could be scheduled.
    pub initial_attempt: Option<Duration>,
    pub unschedulable_count: u32,
    pub consecutive_errors: u32,
    /// Plugins that rejected it last time.
    pub unschedulable_plugins: PluginSet,
    /// Of these: plugins that wait for what they set in motion.
    pub pending_plugins: PluginSet,
    /// The plugin that keeps it from being tried at all.
    pub gating_plugin: Option<PluginIndex>,
    sequence: u64,
}

/// What the queue asks of the plugins.
pub trait Rules {
    /// The plugin that keeps a pod out of the active queue; `first` is asked first.
    fn gate(&self, pod: &Pod, first: Option<PluginIndex>) -> Option<PluginIndex>;
    /// What a plugin says to an event; `None` where it has not registered for it.
    fn hint(&self, plugin: PluginIndex, pod: &Pod, event: &ClusterEvent<'_>) -> Option<Hint>;
}

/// Bounds of the pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

/// Order of attempts: priority, then age.
type Rank = (Reverse<i32>, Duration, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(Rank),
    Backoff(Duration, Rank),
    /// In back-off after errors: never tried early.
    Errors(Duration, Rank),
    Unschedulable,
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    backoff: Backoff,
    places: HashMap<PodKey, Place>,
    active: BTreeMap<Rank, QueuedPod>,
    waiting: BTreeMap<(Duration, Rank), QueuedPod>,
    errors: BTreeMap<(Duration, Rank), QueuedPod>,
    unschedulable: HashMap<PodKey, QueuedPod>,
    sequence: u64,
}

/// Pods by store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

// === QueuedPod ===

impl QueuedPod {
    fn rank(&self) -> Rank {
        (Reverse(self.pod.priority), self.timestamp, self.sequence)
    }

    fn is_gated(&self) -> bool {
        self.gating_plugin.is_some()
    }
}

// === Queue ===

impl Queue {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            places: HashMap::new(),
            active: BTreeMap::new(),
            waiting: BTreeMap::new(),
            errors: BTreeMap::new(),
            unschedulable: HashMap::new(),
            sequence: 0,
        }
    }

    /// A pod that was not known.
    pub fn add(&mut self, now: Duration, pod: Arc<Pod>, rules: &dyn Rules) {
        self.take(&pod.key);
        self.sequence += 1;
        let queued = QueuedPod {
            pod,
            timestamp: now,
            attempts: 0,
            initial_attempt: None,
            unschedulable_count: 0,
            consecutive_errors: 0,
            unschedulable_plugins: PluginSet::default(),
            pending_plugins: PluginSet::default(),
            gating_plugin: None,
            sequence: self.sequence,
        };
        self.activate(now, queued, rules);
    }

    /// The pod as the queue knows it.
    pub fn get(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        let queued = match self.places.get(key)? {
            Place::Active(rank) => self.active.get(rank),
            Place::Backoff(at, rank) => self.waiting.get(&(*at, *rank)),
            Place::Errors(at, rank) => self.errors.get(&(*at, *rank)),
            Place::Unschedulable => self.unschedulable.get(key),
        };
        queued.map(|q| &q.pod)
    }

    /// A pod changed. One that waits for help is tried again where `event` (its own update) helps it.
    pub fn update(
        &mut self,
        now: Duration,
        pod: Arc<Pod>,
        event: &ClusterEvent<'_>,
        rules: &dyn Rules,
    ) {
        let Some(place) = self.places.get(&pod.key).copied() else {
            return self.add(now, pod, rules);
        };
        let Some(mut queued) = self.take(&pod.key) else {
            return;
        };
        queued.pod = pod;
        match place {
            Place::Unschedulable => self.consider(now, queued, event, rules),
            Place::Active(_) => self.put_active(now, queued),
            Place::Backoff(at, _) => self.put_backoff(at, queued, false),
            Place::Errors(at, _) => self.put_backoff(at, queued, true),
        }
    }

    /// A pod is gone, or has a node.
    pub fn delete(&mut self, key: &PodKey) -> Option<Arc<Pod>> {
        self.take(key).map(|q| q.pod)
    }

    /// The next pod to try. When none is active, the first of those in back-off comes early.
    pub fn pop(&mut self, now: Duration, rules: &dyn Rules) -> Option<QueuedPod> {
        self.flush(now, rules);
        let mut queued = match self.active.pop_first() {
            Some((_, q)) => q,
            None => self.waiting.pop_first()?.1,
        };
        self.places.remove(&queued.pod.key);
        queued.attempts += 1;
        queued.initial_attempt.get_or_insert(now);
        Some(queued)
    }

    /// A pod was tried and not placed; `rejectors` says by which plugins (none: an error).
    pub fn put_back(
        &mut self,
        now: Duration,
        mut queued: QueuedPod,
        rejectors: PluginSet,
        pending: PluginSet,
    ) {
        self.take(&queued.pod.key);
        queued.timestamp = now;
        queued.unschedulable_plugins = rejectors;
        queued.pending_plugins = pending;
        if rejectors.is_empty() && pending.is_empty() {
            queued.consecutive_errors += 1;
            let until = self.backoff_until(&queued);
            self.put_backoff(until, queued, true);
        } else {
            queued.unschedulable_count += 1;
            queued.consecutive_errors = 0;
            self.put_unschedulable(queued);
        }
    }

    /// Something happened: moves the pods it may help.
    pub fn on_event(&mut self, now: Duration, event: &ClusterEvent<'_>, rules: &dyn Rules) {
        if self.unschedulable.is_empty() {
            return;
        }
        let helped: Vec<PodKey> = self
            .unschedulable
            .iter()
            .filter(|(_, q)| worth_another_try(q, event, rules).is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in helped {
            if let Some(queued) = self.take(&key) {
                self.consider(now, queued, event, rules);
            }
        }
    }

    /// Tries one pod again whatever its plugins say, after its back-off at the latest.
    pub fn force(&mut self, now: Duration, key: &PodKey, rules: &dyn Rules) {
        if self.places.get(key) != Some(&Place::Unschedulable) {
            return;
        }
        if let Some(queued) = self.take(key) {
            self.activate(now, queued, rules);
        }
    }

    /// Moves pods whose back-off is over, and those unschedulable for too long.
    pub fn flush(&mut self, now: Duration, rules: &dyn Rules) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 < whole_seconds(now)
        {
            let queued = entry.remove();
            self.put_active(now, queued);
        }
        while let Some(entry) = self.errors.first_entry()
            && entry.key().0 < whole_seconds(now)
        {
            let queued = entry.remove();
            self.put_active(now, queued);
        }
        let old = |q: &QueuedPod| now >= q.timestamp + limits::UNSCHEDULABLE_MAX && !q.is_gated();
        let stale: Vec<PodKey> = self
            .unschedulable
            .iter()
            .filter(|(_, q)| old(q))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            if let Some(queued) = self.take(&key) {
                self.requeue(now, queued, rules);
            }
        }
    }

    /// When `pop` has something to give next without any event: `None` for never.
    pub fn next_at(&self) -> Option<Duration> {
        if !self.active.is_empty() || !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        // "Backing off" includes the second in which the pause ends.
        let errors = self.errors.keys().next();
        let errors = errors.map(|(at, _)| *at + Duration::from_secs(1));
        let ungated = self.unschedulable.values().filter(|q| !q.is_gated());
        let stale = ungated
            .map(|q| q.timestamp + limits::UNSCHEDULABLE_MAX)
            .min();
        errors.into_iter().chain(stale).min()
    }

    /// How many pods wait where.
    pub fn counts(&self) -> Counts {
        let gated = self.unschedulable.values().filter(|q| q.is_gated()).count();
        Counts {
            active: self.active.len(),
            backoff: self.waiting.len() + self.errors.len(),
            unschedulable: self.unschedulable.len() - gated,
            gated,
        }
    }

    /// Keys of all pods in the queue.
    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.places.keys()
    }

    /// Puts a pod where an event sends it.
    fn consider(
        &mut self,
        now: Duration,
        queued: QueuedPod,
        event: &ClusterEvent<'_>,
        rules: &dyn Rules,
    ) {
        match worth_another_try(&queued, event, rules) {
            None => self.put_unschedulable(queued),
            Some(At::Once) => self.activate(now, queued, rules),
            Some(At::BackoffEnd) => self.requeue(now, queued, rules),
        }
    }

    /// To be tried when its back-off is over.
    fn requeue(&mut self, now: Duration, queued: QueuedPod, rules: &dyn Rules) {
        let until = self.backoff_until(&queued);
        if until < whole_seconds(now) || queued.is_gated() {
            self.activate(now, queued, rules);
        } else if let Some(queued) = self.gate(queued, rules) {
            let errors = queued.consecutive_errors > 0;
            self.put_backoff(until, queued, errors);
        }
    }

    fn activate(&mut self, now: Duration, queued: QueuedPod, rules: &dyn Rules) {
        if let Some(queued) = self.gate(queued, rules) {
            self.put_active(now, queued);
        }
    }

    /// Gives the pod back if no plugin holds it; else keeps it with the unschedulable ones.
    fn gate(&mut self, mut queued: QueuedPod, rules: &dyn Rules) -> Option<QueuedPod> {
        queued.gating_plugin = rules.gate(&queued.pod, queued.gating_plugin);
        match queued.gating_plugin {
            None => Some(queued),
            Some(plugin) => {
                queued.unschedulable_plugins.insert(plugin);
                self.put_unschedulable(queued);
                None
            }
        }
    }

    fn put_active(&mut self, now: Duration, mut queued: QueuedPod) {
        queued.gating_plugin = None;
        queued.initial_attempt.get_or_insert(now);
        let rank = queued.rank();
        self.places
            .insert(queued.pod.key.clone(), Place::Active(rank));
        self.active.insert(rank, queued);
    }

    fn put_backoff(&mut self, until: Duration, queued: QueuedPod, errors: bool) {
        let (rank, key) = (queued.rank(), queued.pod.key.clone());
        if errors {
            self.places.insert(key, Place::Errors(until, rank));
            self.errors.insert((until, rank), queued);
        } else {
            self.places.insert(key, Place::Backoff(until, rank));
            self.waiting.insert((until, rank), queued);
        }
    }

    fn put_unschedulable(&mut self, queued: QueuedPod) {
        let key = queued.pod.key.clone();
        self.places.insert(key.clone(), Place::Unschedulable);
        self.unschedulable.insert(key, queued);
    }

    fn take(&mut self, key: &PodKey) -> Option<QueuedPod> {
        match self.places.remove(key)? {
            Place::Active(rank) => self.active.remove(&rank),
            Place::Backoff(at, rank) => self.waiting.remove(&(at, rank)),
            Place::Errors(at, rank) => self.errors.remove(&(at, rank)),
            Place::Unschedulable => self.unschedulable.remove(key),
        }
    }

    /// When the pause after the pod's last attempt ends.
    fn backoff_until(&self, queued: &QueuedPod) -> Duration {
        let count = match queued.consecutive_errors {
            0 => queued.unschedulable_count,
            errors => errors,
        };
        if count == 0 {
            return Duration::ZERO;
        }
        let doubled = self
            .backoff
            .initial
            .saturating_mul(1 << (count - 1).min(31));
        whole_seconds(queued.timestamp + doubled.min(self.backoff.max))
    }
}

/// When a pod that is worth another try gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Once,
    BackoffEnd,
}

fn worth_another_try(
    queued: &QueuedPod,
    event: &ClusterEvent<'_>,
    rules: &dyn Rules,
) -> Option<At> {
    if event.watched == crate::event::Watched::Everything {
        return (!queued.is_gated()).then_some(At::BackoffEnd);
    }
    let says = |plugin| rules.hint(plugin, &queued.pod, event);
    if let Some(gate) = queued.gating_plugin {
        // A held pod only listens to what its gate has registered for.
        says(gate)?;
    }
    let mut found = None;
    for plugin in queued.pending_plugins.iter() {
        if says(plugin) == Some(Hint::Queue) {
            return Some(At::Once);
        }
    }
    for plugin in queued.unschedulable_plugins.iter() {
        if says(plugin) == Some(Hint::Queue) {
            found = Some(At::BackoffEnd);
            break;
        }
    }
    found
}

fn whole_seconds(t: Duration) -> Duration {
    Duration::from_secs(t.as_secs())
}
