//! Typed reads of one kind from its shared cache.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::Kind;
use crate::cache::{Cache, Subscription};
use crate::entry::Entry;

/// Typed reads of `K`. Cheap to clone.
pub struct Lister<K> {
    cache: Arc<dyn Cache>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            kind: PhantomData,
        }
    }
}

// === Lister ===

impl<K: Kind> Lister<K> {
    /// A lister over a cache that holds objects of `K`.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            kind: PhantomData,
        }
    }

    /// One object; `namespace` is `""` for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.cache.get(namespace, name).and_then(|e| typed(&e))
    }

    /// All objects of a namespace (`None`: of all).
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        self.cache
            .list(namespace)
            .iter()
            .filter_map(|e| typed(e))
            .collect()
    }

    /// Objects whose labels satisfy `matches`.
    pub fn select(&self, namespace: Option<&str>, matches: impl Fn(&Entry) -> bool) -> Vec<Arc<K>> {
        let all = self.cache.list(namespace);
        all.iter()
            .filter(|e| matches(e))
            .filter_map(|e| typed(e))
            .collect()
    }

    /// Now and later.
    pub fn subscribe(&self) -> Subscription {
        self.cache.subscribe()
    }

    /// The untyped cache.
    pub fn cache(&self) -> &Arc<dyn Cache> {
        &self.cache
    }
}

/// The typed view of an entry; an object that does not parse is logged and left out.
pub fn typed<K: Kind>(entry: &Entry) -> Option<Arc<K>> {
    match entry.typed::<K>() {
        Ok(k) => Some(k),
        Err(error) => {
            tracing::error!(object = %entry.key(), %error, "stored object does not parse");
            None
        }
    }
}
