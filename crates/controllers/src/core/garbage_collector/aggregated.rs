//! What other API servers serve behind ours, beside the shared caches: the collector follows their objects'
//! metadata by lists and watches of its own. Upstream: the collector's metadata informers, resynced by discovery.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use client::{Cache, Change, ChangeKind, Client, Entry, Reads, Subscription};
use futures::TryStreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use machinery::{Descriptor, GroupResource, Scope, Strategy, Verb};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::common::aggregated::{self, Foreign};
use crate::limits;

/// Verbs without which objects can be neither followed nor collected.
const NEEDED: [&str; 3] = ["delete", "list", "watch"];

/// The shared caches and those of other servers' resources.
pub struct Everything {
    client: Client,
    remote: RwLock<HashMap<GroupResource, Remote>>,
    changed: watch::Sender<u64>,
}

struct Remote {
    foreign: Foreign,
    descriptor: Arc<Descriptor>,
    cache: Arc<Followed>,
    task: AbortHandle,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Everything {
    /// The shared caches alone, until `run` finds more.
    pub fn new(client: Client) -> Arc<Self> {
        let changed = watch::channel(0).0;
        Arc::new(Self {
            client,
            remote: RwLock::default(),
            changed,
        })
    }

    /// Keeps to what discovery says, for ever: looks again when APIServices or the own resources change, and now
    /// and then while other servers are there, which tell nobody of what is new.
    pub async fn run(self: Arc<Self>) {
        let mut own = self.client.reads().resources_changed();
        let services = GroupResource::new("apiregistration.k8s.io", "apiservices");
        // What came before this moment was told to nobody here.
        self.changed.send_modify(|n| *n += 1);
        loop {
            let cache = self.client.reads().cache(&services);
            let mut changes = cache.map(|c| c.subscribe().changes);
            match aggregated::discover(&self.client).await {
                Ok(found) => self.adopt(&found),
                Err(error) => tracing::warn!(%error, "garbage collector: discovery failed"),
            }
            let next = async {
                match &mut changes {
                    Some(changes) => changes.recv().await.map(|_| ()),
                    None => std::future::pending().await,
                }
            };
            let again = async {
                if aggregated::any(&self.client) {
                    tokio::time::sleep(limits::DISCOVERY_AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = next => {}
                () = again => {}
                more = own.changed() => {
                    if more.is_err() {
                        return;
                    }
                    self.changed.send_modify(|n| *n += 1);
                }
            }
        }
    }

    /// Follows what is new; lets go of what is gone. What a server that does not answer served stays.
    fn adopt(&self, found: &aggregated::Found) {
        let can = |f: &Foreign| NEEDED.iter().all(|v| f.can(v));
        let mut remote = self.remote.write();
        let before = remote.len();
        remote.retain(|_, r| {
            let gv = format!("{}/{}", r.foreign.group, r.foreign.version);
            found.resources.contains(&r.foreign) || found.stale.contains(&gv)
        });
        let mut changed = remote.len() != before;
        for foreign in found.resources.iter().filter(|f| can(f)) {
            let key = GroupResource::new(foreign.group.clone(), foreign.resource.clone());
            remote.entry(key).or_insert_with(|| {
                changed = true;
                let cache = Arc::new(Followed::default());
                let work = follow(self.client.clone(), foreign.clone(), cache.clone());
                Remote {
                    foreign: foreign.clone(),
                    descriptor: Arc::new(descriptor(foreign)),
                    cache,
                    task: tokio::spawn(work).abort_handle(),
                }
            });
        }
        if changed {
            self.changed.send_modify(|n| *n += 1);
        }
    }
}

impl Reads for Everything {
    fn cache(&self, resource: &GroupResource) -> Option<Arc<dyn Cache>> {
        if let Some(own) = self.client.reads().cache(resource) {
            return Some(own);
        }
        let remote = self.remote.read();
        let found = remote.get(resource)?;
        Some(found.cache.clone())
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        let mut all = self.client.reads().resources();
        let remote = self.remote.read();
        all.extend(remote.values().map(|r| r.descriptor.clone()));
        all
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Another server judges its own objects.
struct Elsewhere;

impl Strategy for Elsewhere {
    fn name_problems(&self, _name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }
}

fn descriptor(foreign: &Foreign) -> Descriptor {
    Descriptor {
        group: foreign.group.clone().into(),
        version: foreign.version.clone().into(),
        kind: foreign.kind.clone().into(),
        list_kind: format!("{}List", foreign.kind).into(),
        resource: foreign.resource.clone().into(),
        singular: foreign.kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: match foreign.namespaced {
            true => Scope::Namespaced,
            false => Scope::Cluster,
        },
        verbs: &[Verb::Delete, Verb::List, Verb::Watch],
        subresources: Vec::new(),
        strategy: Arc::new(Elsewhere),
        allocators: Vec::new(),
        storage_prefix: foreign.resource.clone().into(),
        stored: true,
    }
}

/// Follows one resource until it is let go: a list, a watch, and again.
async fn follow(client: Client, foreign: Foreign, cache: Arc<Followed>) {
    let api: Api<DynamicObject> = Api::all_with(client.kube().clone(), &foreign.api_resource());
    loop {
        if let Err(error) = once(&api, &cache).await {
            tracing::debug!(%error, resource = foreign.resource, "garbage collector: a watch ended");
        }
        tokio::time::sleep(reconciler::limits::RESUBSCRIBE).await;
    }
}

async fn once(api: &Api<DynamicObject>, cache: &Followed) -> Result<(), client::Error> {
    let list = api.list_metadata(&ListParams::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let entries = list.items.iter().filter_map(entry).collect();
    cache.replace(entries);
    let events = api
        .watch_metadata(&WatchParams::default(), &version)
        .await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                if let Some(entry) = entry(&o) {
                    cache.put(entry);
                }
            }
            WatchEvent::Deleted(o) => {
                if let Some(entry) = entry(&o) {
                    cache.remove(entry);
                }
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => return Ok(()),
        }
    }
    Ok(())
}

fn entry<T: serde::Serialize>(object: &T) -> Option<Arc<Entry>> {
    let bytes = serde_json::to_vec(object).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    // Another server's versions are compared with nothing here.
    let version = machinery::object::str_at(&value, "metadata.resourceVersion");
    let version = version.parse().unwrap_or(0);
    Entry::new(bytes.into(), version, Vec::new())
        .ok()
        .map(Arc::new)
}

// === Followed ===

type Name = (Box<str>, Box<str>);

/// The metadata of another server's objects of one resource.
#[derive(Default)]
struct Followed(Mutex<State>);

#[derive(Default)]
struct State {
    objects: BTreeMap<Name, Arc<Entry>>,
    subscribers: Vec<mpsc::Sender<Change>>,
}

fn name(entry: &Entry) -> Name {
    (entry.namespace.clone(), entry.name.clone())
}

impl State {
    /// Who lags too far subscribes again.
    fn tell(&mut self, change: &Change) {
        let sent = |s: &mpsc::Sender<Change>| s.try_send(change.clone()).is_ok();
        self.subscribers.retain(sent);
    }

    fn put(&mut self, entry: Arc<Entry>) {
        let before = self.objects.insert(name(&entry), entry.clone());
        let kind = match before {
            None => ChangeKind::Added,
            Some(_) => ChangeKind::Modified,
        };
        self.tell(&Change {
            kind,
            entry,
            before,
        });
    }

    fn remove(&mut self, entry: Arc<Entry>) {
        let before = self.objects.remove(&name(&entry));
        self.tell(&Change {
            kind: ChangeKind::Deleted,
            entry,
            before,
        });
    }
}

impl Followed {
    fn put(&self, entry: Arc<Entry>) {
        self.0.lock().put(entry);
    }

    fn remove(&self, entry: Arc<Entry>) {
        self.0.lock().remove(entry);
    }

    fn replace(&self, all: Vec<Arc<Entry>>) {
        let mut state = self.0.lock();
        let there: Vec<Name> = all.iter().map(|e| name(e)).collect();
        let gone: Vec<Arc<Entry>> = state
            .objects
            .iter()
            .filter(|(n, _)| !there.contains(n))
            .map(|(_, e)| e.clone())
            .collect();
        gone.into_iter().for_each(|e| state.remove(e));
        all.into_iter().for_each(|e| state.put(e));
    }
}

#[async_trait]
impl Cache for Followed {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let state = self.0.lock();
        state.objects.get(&(namespace.into(), name.into())).cloned()
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let state = self.0.lock();
        let inside = |e: &&Arc<Entry>| namespace.is_none_or(|n| *e.namespace == *n);
        state.objects.values().filter(inside).cloned().collect()
    }

    fn revision(&self) -> u64 {
        0
    }

    fn subscribe(&self) -> Subscription {
        let (sender, changes) = mpsc::channel(limits::AGGREGATED_CHANGES);
        let mut state = self.0.lock();
        state.subscribers.push(sender);
        Subscription {
            snapshot: state.objects.values().cloned().collect(),
            revision: 0,
            changes,
        }
    }

    /// Nobody writes here and waits: revisions of other servers are their own.
    async fn wait_for(&self, _revision: u64) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flunder(name: &str) -> Arc<Entry> {
        entry(&json!({"metadata": {"name": name, "namespace": "n", "uid": name}})).unwrap()
    }

    #[test]
    fn what_is_missing_from_a_new_list_is_told_as_deleted() {
        let cache = Followed::default();
        cache.replace(vec![flunder("a"), flunder("b")]);
        let mut seen = cache.subscribe();
        assert_eq!(seen.snapshot.len(), 2);
        cache.replace(vec![flunder("b")]);
        cache.put(flunder("c"));
        let mut told = Vec::new();
        while let Ok(change) = seen.changes.try_recv() {
            told.push((change.kind, change.entry.name.to_string()));
        }
        assert_eq!(
            told,
            [
                (ChangeKind::Deleted, "a".into()),
                (ChangeKind::Modified, "b".into()),
                (ChangeKind::Added, "c".into())
            ]
        );
        assert!(cache.get("n", "a").is_none());
        assert_eq!(cache.list(Some("n")).len(), 2);
    }
}
