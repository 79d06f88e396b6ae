//! Which resources are served now. Built-ins come at start, custom resources come and go.

use std::collections::{HashMap, HashSet};
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
    /// By the resource's name, each in order of registration.
    by_name: HashMap<Box<str>, Vec<Arc<Served>>>,
    /// How many resources of each group and version there are.
    versions: HashMap<Box<str>, Vec<(Box<str>, usize)>>,
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
        state.put(served.clone());
        drop(state);
        self.changed.send_modify(|n| *n += 1);
        Ok(served)
    }

    /// Stops serving every version of a resource.
    pub async fn remove(&self, group: &str, resource: &str) {
        let mut prefixes = Vec::new();
        {
            let mut state = self.state.write();
            state.retain(resource, |s| {
                let gone = s.descriptor.group == group;
                if gone && s.cache.is_some() {
                    prefixes.push(storage_prefix(&s.descriptor));
                }
                !gone
            });
        }
        for prefix in prefixes {
            self.follower.remove(&prefix).await;
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Stops serving one version of a resource; its cache stays for the others.
    pub fn remove_version(&self, group: &str, version: &str, resource: &str) {
        let mut state = self.state.write();
        state.retain(resource, |s| {
            s.descriptor.group != group || s.descriptor.version != version
        });
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The resource at a path.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        let state = self.state.read();
        let mut all = state.by_name.get(resource)?.iter();
        all.find(|s| s.descriptor.group == group && s.descriptor.version == version)
            .cloned()
    }

    /// Whether any resource of a group version is served.
    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        let state = self.state.read();
        let versions = state.versions.get(group);
        versions.is_some_and(|all| all.iter().any(|(v, _)| **v == *version))
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
        let mut all = state.by_name.get(&*resource.resource)?.iter();
        let first = all.find(|s| s.descriptor.group == resource.group)?;
        Some(first.cache.clone()?)
    }

    fn resources(&self) -> Vec<Arc<Descriptor>> {
        let state = self.state.read();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        let stored = state.ordered.iter().filter(|s| s.cache.is_some());
        let all = stored.map(|s| &s.descriptor);
        all.filter(|d| seen.insert((&d.group, &d.resource)))
            .cloned()
            .collect()
    }

    fn resources_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

// === State ===

impl State {
    /// Puts a version in, in the place of what is at its path.
    fn put(&mut self, served: Arc<Served>) {
        let d = served.descriptor.clone();
        let named = self.by_name.entry((&*d.resource).into()).or_default();
        let same =
            |s: &Arc<Served>| s.descriptor.group == d.group && s.descriptor.version == d.version;
        if let Some(at) = named.iter().position(same) {
            let old = std::mem::replace(&mut named[at], served.clone());
            let at = self.ordered.iter().position(|s| Arc::ptr_eq(s, &old));
            if let Some(at) = at {
                self.ordered[at] = served;
            }
            return;
        }
        named.push(served.clone());
        self.ordered.push(served);
        let versions = self.versions.entry((&*d.group).into()).or_default();
        match versions.iter_mut().find(|(v, _)| **v == *d.version) {
            Some((_, count)) => *count += 1,
            None => versions.push(((&*d.version).into(), 1)),
        }
    }

    /// Keeps of a resource what `keep` says.
    fn retain(&mut self, resource: &str, mut keep: impl FnMut(&Served) -> bool) {
        let Some(named) = self.by_name.get_mut(resource) else {
            return;
        };
        let mut gone: Vec<Arc<Served>> = Vec::new();
        named.retain(|s| {
            let stays = keep(s);
            if !stays {
                gone.push(s.clone());
            }
            stays
        });
        if named.is_empty() {
            self.by_name.remove(resource);
        }
        if gone.is_empty() {
            return;
        }
        self.ordered
            .retain(|s| !gone.iter().any(|g| Arc::ptr_eq(g, s)));
        for d in gone.iter().map(|g| &g.descriptor) {
            let Some(versions) = self.versions.get_mut(&*d.group) else {
                continue;
            };
            if let Some(at) = versions.iter().position(|(v, _)| **v == *d.version) {
                versions[at].1 -= 1;
                if versions[at].1 == 0 {
                    versions.swap_remove(at);
                }
            }
            if versions.is_empty() {
                self.versions.remove(&*d.group);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use machinery::{Scope, Strategy};

    use super::*;

    struct Plain;

    impl Strategy for Plain {
        fn name_problems(&self, _: &str, _: bool) -> Vec<String> {
            Vec::new()
        }
    }

    fn served(group: &'static str, version: &'static str, resource: &'static str) -> Arc<Served> {
        Arc::new(Served {
            descriptor: Arc::new(Descriptor::new(
                group,
                version,
                "A",
                resource,
                Scope::Cluster,
                Plain,
            )),
            cache: None,
        })
    }

    fn versions(state: &State, group: &str) -> Vec<(String, usize)> {
        let all = state.versions.get(group).into_iter().flatten();
        all.map(|(v, n)| (v.to_string(), *n)).collect()
    }

    #[test]
    fn what_is_put_twice_is_there_once_and_goes_whole() {
        let mut state = State::default();
        for (group, version, resource) in [
            ("g", "v1", "as"),
            ("g", "v2", "as"),
            ("h", "v1", "as"),
            ("g", "v1", "bs"),
            ("g", "v1", "as"),
        ] {
            state.put(served(group, version, resource));
        }
        assert_eq!(state.ordered.len(), 4);
        assert_eq!(&*state.ordered[0].descriptor.resource, "as");
        let (v1, v2) = (("v1".to_string(), 2), ("v2".to_string(), 1));
        assert_eq!(versions(&state, "g"), [v1, v2.clone()]);
        state.retain("as", |s| {
            s.descriptor.group != "g" || s.descriptor.version != "v1"
        });
        assert_eq!(versions(&state, "g"), [("v1".to_string(), 1), v2]);
        state.retain("as", |s| s.descriptor.group != "g");
        assert_eq!(versions(&state, "g"), [("v1".to_string(), 1)]);
        assert_eq!((state.by_name["as"].len(), state.ordered.len()), (1, 2));
        state.retain("bs", |_| false);
        assert!(versions(&state, "g").is_empty() && !state.versions.contains_key("g"));
        assert!(!state.by_name.contains_key("bs"));
    }
}
