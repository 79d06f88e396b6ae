//! Which resources are served now. Built-ins come at start, custom resources come and go.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Cache, Reads};
use machinery::{Descriptor, GroupResource};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::cache::{Follower, WatchCache};

/// One served version of a resource.
#[derive(Clone)]
pub struct Served {
    pub descriptor: Arc<Descriptor>,
    /// `None` for kinds that are never stored.
    pub cache: Option<Arc<WatchCache>>,
}

/// All served resources. Reads are a lock and a hash look-up.
pub struct Registry {
    follower: Follower,
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    by_path: HashMap<(String, String, String), Arc<Served>>,
    /// In order of registration, which is the order of discovery.
    ordered: Vec<Arc<Served>>,
}

// === Registry ===

impl Registry {
    /// An empty registry whose caches follow the store through `follower`.
    pub fn new(follower: Follower) -> Self {
        Self {
            follower,
            state: RwLock::default(),
            changed: watch::channel(0).0,
        }
    }

    /// Serves a resource. Versions of the same storage prefix share one cache.
    pub async fn add(&self, descriptor: Descriptor) -> Result<Arc<Served>, String> {
        let descriptor = Arc::new(descriptor);
        let cache = if descriptor.stored {
            let prefix = storage_prefix(&descriptor);
            Some(self.follower.add(descriptor.clone(), prefix).await?)
        } else {
            None
        };
        let served = Arc::new(Served {
            descriptor: descriptor.clone(),
            cache,
        });
        let mut state = self.state.write();
        if let Some(old) = state.by_path.insert(path_key(&descriptor), served.clone()) {
            let at = state.ordered.iter().position(|s| Arc::ptr_eq(s, &old));
            match at {
                Some(i) => state.ordered[i] = served.clone(),
                None => state.ordered.push(served.clone()),
            }
        } else {
            state.ordered.push(served.clone());
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
        Ok(served)
    }

    /// Stops serving every version of a resource.
    pub async fn remove(&self, group: &str, resource: &str) {
        let mut prefixes = Vec::new();
        {
            let mut state = self.state.write();
            state.ordered.retain(|s| {
                let gone = s.descriptor.group == group && s.descriptor.resource == resource;
                if gone && s.cache.is_some() {
                    prefixes.push(storage_prefix(&s.descriptor));
                }
                !gone
            });
            state
                .by_path
                .retain(|(g, _, r), _| !(g == group && r == resource));
        }
        for prefix in prefixes {
            self.follower.remove(&prefix).await;
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Stops serving one version of a resource; its cache stays for the others.
    pub fn remove_version(&self, group: &str, version: &str, resource: &str) {
        let key = (group.to_string(), version.to_string(), resource.to_string());
        let mut state = self.state.write();
        if let Some(old) = state.by_path.remove(&key) {
            state.ordered.retain(|s| !Arc::ptr_eq(s, &old));
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The resource at a path.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        let key = (group.to_string(), version.to_string(), resource.to_string());
        self.state.read().by_path.get(&key).cloned()
    }

    /// Whether any resource of a group version is served.
    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.state
            .read()
            .ordered
            .iter()
            .any(|s| s.descriptor.group == group && s.descriptor.version == version)
    }

    /// All, in order.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.state.read().ordered.clone()
    }

    /// Counts changes of what is served.
    pub fn generation(&self) -> u64 {
        *self.changed.borrow()
    }

    /// The follower behind all caches.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }
}

impl Reads for Registry {
    fn cache(&self, resource: &GroupResource) -> Option<Arc<dyn Cache>> {
        let state = self.state.read();
        let of = |s: &&Arc<Served>| {
            s.descriptor.group == resource.group && s.descriptor.resource == resource.resource
        };
        let cache = state.ordered.iter().find(of)?.cache.clone()?;
        Some(cache)
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        let state = self.state.read();
        let mut seen: Vec<GroupResource> = Vec::new();
        let mut out = Vec::new();
        for s in &state.ordered {
            let gr = s.descriptor.group_resource();
            if s.cache.is_some() && !seen.contains(&gr) {
                seen.push(gr);
                out.push(s.descriptor.clone());
            }
        }
        out
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn path_key(d: &Descriptor) -> (String, String, String) {
    (
        d.group.to_string(),
        d.version.to_string(),
        d.resource.to_string(),
    )
}

/// `/registry/<prefix>/`.
pub fn storage_prefix(d: &Descriptor) -> String {
    format!("{}{}/", crate::cache::ROOT, d.storage_prefix)
}

/// The key of an object.
pub fn storage_key(d: &Descriptor, namespace: &str, name: &str) -> String {
    let prefix = storage_prefix(d);
    if d.namespaced() {
        format!("{prefix}{namespace}/{name}")
    } else {
        format!("{prefix}{name}")
    }
}
