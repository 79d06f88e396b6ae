//! Short words for metadata.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::k8s_openapi::{Metadata, Resource};
use api::meta::{ObjectMeta, OwnerReference, Time};
use jiff::Timestamp;

static NO_TEXTS: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);

/// Metadata without its options.
pub trait Object: Metadata<Ty = ObjectMeta> {
    /// `metadata.name`.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or("")
    }
    /// `metadata.namespace`.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or("")
    }
    /// `metadata.uid`.
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or("")
    }
    /// Whether the object is being deleted.
    fn deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
    /// `metadata.labels`.
    fn labels(&self) -> &BTreeMap<String, String> {
        self.metadata().labels.as_ref().unwrap_or(&NO_TEXTS)
    }
    /// `metadata.annotations`.
    fn annotations(&self) -> &BTreeMap<String, String> {
        self.metadata().annotations.as_ref().unwrap_or(&NO_TEXTS)
    }
    /// One annotation, `""` where it is not there.
    fn annotation(&self, key: &str) -> &str {
        self.annotations().get(key).map_or("", String::as_str)
    }
    /// When the object was made.
    fn created(&self) -> Timestamp {
        let time = self.metadata().creation_timestamp.as_ref();
        time.map_or(Timestamp::UNIX_EPOCH, |t| t.0)
    }
    /// `metadata.generation`.
    fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or(0)
    }
    /// The owner that controls the object.
    fn controller(&self) -> Option<&OwnerReference> {
        let owners = self.metadata().owner_references.iter().flatten();
        owners.into_iter().find(|o| o.controller == Some(true))
    }
    /// Whether the object is controlled by the owner of this UID.
    fn controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|o| o.uid == uid)
    }
    /// Whether the object carries a finalizer.
    fn has_finalizer(&self, finalizer: &str) -> bool {
        let all = self.metadata().finalizers.iter().flatten();
        all.into_iter().any(|f| f == finalizer)
    }
}

impl<K: Metadata<Ty = ObjectMeta>> Object for K {}

/// A reference to an owner that controls and blocks its foreground deletion.
pub fn controller_ref<K: Resource + Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A time for an object.
pub fn time(t: Timestamp) -> Option<Time> {
    Some(Time(t))
}
