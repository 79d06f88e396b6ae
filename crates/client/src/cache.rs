//! The shared watch cache as its readers see it.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::{Descriptor, GroupResource};
use tokio::sync::mpsc;

use crate::entry::Entry;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl ChangeKind {
    /// Its name in watch events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change. For `Deleted` the entry is the last state, with the deletion's revision.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub entry: Arc<Entry>,
    /// The state before; `None` for `Added`.
    pub before: Option<Arc<Entry>>,
}

/// A snapshot and everything that comes after it, without gap or duplicate.
pub struct Subscription {
    pub snapshot: Vec<Arc<Entry>>,
    pub revision: u64,
    /// Ends when the subscriber lagged too far or the resource is no longer served:
    /// subscribe again and compare.
    pub changes: mpsc::Receiver<Change>,
}

/// One resource's objects.
#[async_trait]
pub trait Cache: Send + Sync {
    /// One object; `namespace` is `""` for cluster-scoped.
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>>;
    /// All objects, or those of one namespace, ordered by namespace and name.
    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>>;
    /// The revision this cache is at.
    fn revision(&self) -> u64;
    /// Now and later.
    fn subscribe(&self) -> Subscription;
    /// Waits until the cache is at least at `revision` (used after a write to read one's own write).
    async fn wait_for(&self, revision: u64);
}

/// All caches of the process.
pub trait Reads: Send + Sync {
    /// The cache of a resource, `None` where it is not served.
    fn cache(&self, resource: &GroupResource) -> Option<Arc<dyn Cache>>;
    /// All resources served now (preferred versions only), custom ones included.
    fn resources(&self) -> Vec<Arc<Descriptor>>;
    /// Counts changes of the set that `resources` gives; wakes when CRDs come and go.
    fn resources_changed(&self) -> tokio::sync::watch::Receiver<u64>;
}
