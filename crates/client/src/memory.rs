//! A cache held in memory with no server behind it: for tests of parts, and as the model of the rules
//! that every `Cache` keeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use machinery::{Descriptor, GroupResource};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::cache::{Cache, Change, ChangeKind, Reads, Subscription};
use crate::entry::Entry;
use crate::limits;

/// Objects by namespace and name, with subscribers.
pub struct MemoryCache {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(Box<str>, Box<str>), Arc<Entry>>,
    subscribers: Vec<mpsc::Sender<Change>>,
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            revision: watch::channel(0).0,
        }
    }
}

// === MemoryCache ===

impl MemoryCache {
    /// Adds or replaces an object; gives its revision.
    pub fn apply(&self, mut object: Value) -> Result<u64, serde_json::Error> {
        let mut state = self.state.lock();
        let revision = *self.revision.borrow() + 1;
        machinery::object::set(
            &mut object,
            "metadata.resourceVersion",
            json!(revision.to_string()),
        );
        let entry = Arc::new(Entry::new(
            Bytes::from(object.to_string()),
            revision,
            Vec::new(),
        )?);
        let key = (entry.namespace.clone(), entry.name.clone());
        let before = state.objects.insert(key, entry.clone());
        let kind = if before.is_some() {
            ChangeKind::Modified
        } else {
            ChangeKind::Added
        };
        state.send(&Change {
            kind,
            entry,
            before,
        });
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// Removes an object; `false` where there was none.
    pub fn delete(&self, namespace: &str, name: &str) -> bool {
        let mut state = self.state.lock();
        let Some(before) = state.objects.remove(&(namespace.into(), name.into())) else {
            return false;
        };
        let revision = *self.revision.borrow() + 1;
        state.send(&Change {
            kind: ChangeKind::Deleted,
            entry: before.clone(),
            before: Some(before),
        });
        self.revision.send_replace(revision);
        true
    }
}

impl State {
    fn send(&mut self, change: &Change) {
        self.subscribers
            .retain(|s| s.try_send(change.clone()).is_ok());
    }
}

#[async_trait]
impl Cache for MemoryCache {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.state
            .lock()
            .objects
            .get(&(namespace.into(), name.into()))
            .cloned()
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let state = self.state.lock();
        let all = state.objects.values();
        all.filter(|e| namespace.is_none_or(|n| &*e.namespace == n))
            .cloned()
            .collect()
    }

    fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    fn subscribe(&self) -> Subscription {
        let (sender, changes) = mpsc::channel(limits::SUBSCRIPTION_CHANGES);
        let mut state = self.state.lock();
        state.subscribers.push(sender);
        Subscription {
            snapshot: state.objects.values().cloned().collect(),
            revision: *self.revision.borrow(),
            changes,
        }
    }

    async fn wait_for(&self, revision: u64) {
        let mut seen = self.revision.subscribe();
        // The sender lives in self, so waiting cannot end early.
        let _ = seen.wait_for(|r| *r >= revision).await;
    }
}

/// A fixed set of memory caches.
pub struct MemoryReads {
    caches: HashMap<GroupResource, Arc<MemoryCache>>,
    changed: watch::Sender<u64>,
}

// === MemoryReads ===

impl MemoryReads {
    /// One empty cache per (group, plural).
    pub fn new(resources: &[(&'static str, &'static str)]) -> Self {
        let caches = resources
            .iter()
            .map(|(g, r)| (GroupResource::new(*g, *r), Arc::new(MemoryCache::default())))
            .collect();
        Self {
            caches,
            changed: watch::channel(0).0,
        }
    }

    /// The cache of a resource named in `new`.
    pub fn memory(&self, group: &'static str, resource: &'static str) -> Option<&Arc<MemoryCache>> {
        self.caches.get(&GroupResource::new(group, resource))
    }
}

impl Reads for MemoryReads {
    fn cache(&self, resource: &GroupResource) -> Option<Arc<dyn Cache>> {
        self.caches
            .get(resource)
            .map(|c| c.clone() as Arc<dyn Cache>)
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        Vec::new()
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: Value) -> Value {
        json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":name,"namespace":"d","labels":labels}})
    }

    #[test]
    fn subscribers_see_snapshot_then_changes_in_order() {
        let cache = MemoryCache::default();
        cache.apply(pod("a", json!({"x":"1"}))).unwrap();
        let mut sub = cache.subscribe();
        assert_eq!(sub.snapshot.len(), 1);
        cache.apply(pod("a", json!({"x":"2"}))).unwrap();
        assert!(cache.delete("d", "a"));
        let first = sub.changes.try_recv().unwrap();
        assert_eq!(first.kind, ChangeKind::Modified);
        assert_eq!(&*first.before.unwrap().labels["x"], "1");
        assert_eq!(sub.changes.try_recv().unwrap().kind, ChangeKind::Deleted);
        assert!(sub.changes.try_recv().is_err());
    }
}
