//! Who refers to whom. Only objects with owners are in it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::Entry;
use machinery::{Descriptor, GroupResource};
use parking_lot::{Mutex, RwLock};
use reconciler::{Key, Waker};
use serde::Deserialize;

use super::plan::{FOREGROUND, ORPHAN, Owner};

/// What the collector reads of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub owners: Vec<Owner>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    owner_references: Option<Vec<Owner>>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
    #[serde(default)]
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

/// The served kinds, both ways.
#[derive(Default)]
pub struct Kinds {
    resources: HashMap<GroupResource, Arc<Descriptor>>,
    kinds: HashMap<(String, String), Arc<Descriptor>>,
}

/// One object that refers to an owner.
#[derive(Clone, Debug)]
pub struct Dependent {
    pub key: Key,
    pub blocks: bool,
    pub deleting_dependents: bool,
}

struct Node {
    key: Key,
    owners: Vec<Owner>,
    deleting_dependents: bool,
}

/// The references between objects, and the means to wake the collector.
#[derive(Default)]
pub struct Graph {
    state: Mutex<State>,
    kinds: RwLock<Arc<Kinds>>,
    waker: RwLock<Option<Waker>>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Box<str>, Node>,
    dependents: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// The key of an object in the collector's queue.
pub fn encode(resource: &GroupResource, namespace: &str, name: &str) -> Key {
    let scope = format!("{}.{}/{namespace}", resource.resource, resource.group);
    Key::new(&scope, name)
}

/// The resource and namespace of such a key.
pub fn decode(key: &Key) -> Option<(GroupResource, String)> {
    let (resource, namespace) = key.namespace.split_once('/')?;
    let (resource, group) = resource.split_once('.')?;
    let resource = GroupResource::new(group.to_string(), resource.to_string());
    Some((resource, namespace.to_string()))
}

// === Object ===

impl Object {
    /// Reads the metadata of an entry; `None` where it is malformed.
    pub fn of(entry: &Entry) -> Option<Self> {
        let Envelope { metadata: m } = serde_json::from_slice(&entry.bytes).ok()?;
        Some(Self {
            owners: m.owner_references.unwrap_or_default(),
            finalizers: m.finalizers.unwrap_or_default(),
            deleting: m.deletion_timestamp.is_some(),
        })
    }

    /// Whether a finalizer is there.
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|f| f == finalizer)
    }

    /// Whether the object is being deleted and waits for its dependents.
    pub fn deleting_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// Whether the collector has something to do for an object being deleted.
    pub fn needs_collector(&self) -> bool {
        self.deleting && (self.has_finalizer(FOREGROUND) || self.has_finalizer(ORPHAN))
    }
}

// === Kinds ===

impl Kinds {
    /// The kinds of these descriptors; events own nothing and are owned by nothing.
    pub fn of(all: Vec<Arc<Descriptor>>) -> Self {
        let mut this = Self::default();
        for d in all
            .into_iter()
            .filter(|d| d.stored && d.resource != "events")
        {
            let kind = (d.group.to_string(), d.kind.to_string());
            this.kinds.insert(kind, d.clone());
            this.resources.insert(d.group_resource(), d);
        }
        this
    }

    /// The descriptor of a resource.
    pub fn by_resource(&self, resource: &GroupResource) -> Option<Arc<Descriptor>> {
        self.resources.get(resource).cloned()
    }

    /// The descriptor of a kind of a group, whatever the version.
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<Arc<Descriptor>> {
        self.kinds
            .get(&(group.to_string(), kind.to_string()))
            .cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Descriptor>> {
        self.resources.values().cloned().collect()
    }
}

// === Graph ===

impl Graph {
    /// Where wakes go.
    pub fn attach(&self, waker: Waker) {
        *self.waker.write() = Some(waker);
    }

    /// Queues an object.
    pub fn wake(&self, key: Key) {
        if let Some(waker) = &*self.waker.read() {
            waker.wake(key, Duration::ZERO);
        }
    }

    /// The served kinds.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.kinds.read().clone()
    }

    /// Replaces the served kinds.
    pub fn set_kinds(&self, kinds: Kinds) {
        *self.kinds.write() = Arc::new(kinds);
    }

    /// Notes an object as it is now; gives the owners it had before.
    pub fn put(&self, uid: &str, key: Key, object: &Object) -> Vec<Owner> {
        let mut state = self.state.lock();
        let before = state.remove(uid);
        if !object.owners.is_empty() {
            for owner in &object.owners {
                let all = state.dependents.entry(owner.uid.as_str().into());
                all.or_default().insert(uid.into());
            }
            let node = Node {
                key,
                owners: object.owners.clone(),
                deleting_dependents: object.deleting_dependents(),
            };
            state.nodes.insert(uid.into(), node);
        }
        before
    }

    /// Forgets an object; gives the owners it had.
    pub fn forget(&self, uid: &str) -> Vec<Owner> {
        self.state.lock().remove(uid)
    }

    /// Objects that refer to an owner.
    pub fn dependents(&self, owner: &str) -> Vec<Dependent> {
        let state = self.state.lock();
        let uids = state.dependents.get(owner).into_iter().flatten();
        let nodes = uids.filter_map(|u| state.nodes.get(u));
        nodes
            .map(|n| Dependent {
                key: n.key.clone(),
                blocks: n
                    .owners
                    .iter()
                    .any(|o| o.uid == owner && o.block == Some(true)),
                deleting_dependents: n.deleting_dependents,
            })
            .collect()
    }

    /// The namespace of an object with owners; `""` where it is not known.
    pub fn namespace_of(&self, uid: &str) -> String {
        let state = self.state.lock();
        let node = state.nodes.get(uid);
        let scope = node.and_then(|n| n.key.namespace.split_once('/'));
        scope.map_or_else(String::new, |(_, namespace)| namespace.to_string())
    }

    /// Keys of all objects with owners.
    pub fn all(&self) -> Vec<Key> {
        let state = self.state.lock();
        state.nodes.values().map(|n| n.key.clone()).collect()
    }

    /// UIDs of the objects of one resource.
    pub fn uids_of(&self, resource: &GroupResource) -> Vec<Box<str>> {
        let prefix = format!("{}.{}/", resource.resource, resource.group);
        let state = self.state.lock();
        let nodes = state.nodes.iter();
        nodes
            .filter(|(_, n)| n.key.namespace.starts_with(&prefix))
            .map(|(uid, _)| uid.clone())
            .collect()
    }
}

impl State {
    fn remove(&mut self, uid: &str) -> Vec<Owner> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        for owner in &node.owners {
            if let Some(all) = self.dependents.get_mut(owner.uid.as_str()) {
                all.remove(uid);
                if all.is_empty() {
                    self.dependents.remove(owner.uid.as_str());
                }
            }
        }
        node.owners
    }
}
