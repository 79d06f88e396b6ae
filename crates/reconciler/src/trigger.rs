//! Which changes of the cluster wake which keys.

use std::sync::Arc;
use std::time::Duration;

use client::{ChangeKind, Entry, Kind};
use machinery::GroupResource;
use machinery::descriptor::Text;

use crate::Key;

/// A change as triggers see it. At the start, and after a subscription lagged, everything there is comes
/// as `Added`.
pub struct Event<'a> {
    pub kind: ChangeKind,
    pub entry: &'a Arc<Entry>,
    pub before: Option<&'a Arc<Entry>>,
}

/// A key to be queued, now or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    pub key: Key,
    pub after: Duration,
}

type Map = dyn Fn(&Event<'_>) -> Vec<Wake> + Send + Sync;

/// One resource whose changes wake keys.
#[derive(Clone)]
pub struct Trigger {
    pub resource: GroupResource,
    map: Arc<Map>,
}

// === Event ===

impl Event<'_> {
    /// The new state, typed; for deletions the last one.
    pub fn typed<K: Kind>(&self) -> Option<Arc<K>> {
        client::lister::typed(self.entry)
    }

    /// The state before, typed.
    pub fn typed_before<K: Kind>(&self) -> Option<Arc<K>> {
        self.before.and_then(|e| client::lister::typed(e))
    }

    /// Whether the object is gone.
    pub fn deleted(&self) -> bool {
        self.kind == ChangeKind::Deleted
    }
}

// === Wake ===

impl From<Key> for Wake {
    fn from(key: Key) -> Self {
        Self {
            key,
            after: Duration::ZERO,
        }
    }
}

// === Trigger ===

impl Trigger {
    /// Changes of a resource, mapped by a function.
    pub fn map(
        group: &'static str,
        resource: &'static str,
        map: impl Fn(&Event<'_>) -> Vec<Wake> + Send + Sync + 'static,
    ) -> Self {
        Self::of(group.into(), resource.into(), map)
    }

    /// The same for a resource that is known only when the controller starts.
    pub fn of(
        group: Text,
        resource: Text,
        map: impl Fn(&Event<'_>) -> Vec<Wake> + Send + Sync + 'static,
    ) -> Self {
        Self {
            resource: GroupResource::new(group, resource),
            map: Arc::new(map),
        }
    }

    /// Each change of an object wakes its own key.
    pub fn own(group: &'static str, resource: &'static str) -> Self {
        Self::map(group, resource, |e| vec![Key::of(e.entry).into()])
    }

    /// Each change of an object wakes the controllers of `kind` that own it or owned it before.
    pub fn owned(group: &'static str, resource: &'static str, kind: &'static str) -> Self {
        Self::map(group, resource, move |e| owners(e, kind))
    }

    /// The keys that an event wakes.
    pub fn wakes(&self, event: &Event<'_>) -> Vec<Wake> {
        (self.map)(event)
    }
}

/// The keys of the controllers of a kind that own an object now or did before.
pub fn owners(e: &Event<'_>, kind: &str) -> Vec<Wake> {
    let mut found: Vec<Wake> = Vec::new();
    for entry in std::iter::once(e.entry).chain(e.before) {
        let owner = entry.controller.as_ref().filter(|c| &*c.kind == kind);
        let wake = owner.map(|c| Wake::from(Key::new(&entry.namespace, &c.name)));
        found.extend(wake.filter(|w| !found.contains(w)));
    }
    found
}
