//! `Descriptor`: everything the generic server must know of one resource, built-in or custom.
//! Upstream: the many tables around registry, scheme and discovery; here it is one value.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::ApiError;
use crate::request::User;
use crate::strategy::Strategy;

/// A text that is static for built-ins and owned for custom resources.
pub type Text = Cow<'static, str>;

/// Group and plural, the key of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: Text,
    pub resource: Text,
}

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// A verb as discovery names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

/// How a subresource is served.
#[derive(Clone)]
pub enum SubresourceKind {
    /// `/status`: get, patch, update with the strategy's status hooks.
    Status,
    /// `/scale`: get, patch, update of an autoscaling/v1 Scale mapped onto JSON paths
    /// (dotted, such as `spec.replicas`); the selector path may hold a string or a LabelSelector.
    Scale {
        spec: Text,
        status: Text,
        selector: Text,
    },
    /// Same object, other hooks (`pods/ephemeralcontainers`, `pods/resize`): get, patch, update.
    Object,
    /// The same, update only (`namespaces/finalize`).
    ObjectUpdate,
    /// Anything else: handled by the connector the server was given under this name.
    Connect {
        verbs: &'static [&'static str],
        kind: Text,
        group: Text,
        version: Text,
    },
}

/// One subresource.
#[derive(Clone)]
pub struct Subresource {
    pub name: Text,
    pub kind: SubresourceKind,
}

/// What a write reserved outside its object, such as a cluster IP.
pub trait Reservation: Send {
    /// Called once, after the write: `true` if it was committed.
    fn finish(self: Box<Self>, committed: bool);
}

/// Reserves outside state for a write, before validation. Upstream's `BeginCreate`/`BeginUpdate`.
/// Runs with the object defaulted; may fill fields in (cluster IP, node ports).
#[async_trait]
pub trait Allocator: Send + Sync {
    /// Reserves for a create (`before` is `None`) or an update.
    async fn begin(
        &self,
        obj: &mut Value,
        before: Option<&Value>,
        dry_run: bool,
    ) -> Result<Box<dyn Reservation>, ApiError>;

    /// Gives back what a deleted object held.
    async fn release(&self, obj: &Value);
}

/// All that is known of one served version of a resource.
#[derive(Clone)]
pub struct Descriptor {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub list_kind: Text,
    /// Plural, as in paths.
    pub resource: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub scope: Scope,
    pub verbs: &'static [Verb],
    pub subresources: Vec<Subresource>,
    pub strategy: Arc<dyn Strategy>,
    pub allocators: Vec<Arc<dyn Allocator>>,
    /// Key prefix in the store, without slashes at the ends: `deployments`, `services/specs`.
    pub storage_prefix: Text,
    /// `false` for kinds that are never stored (TokenReview): create is a connector of the same name.
    pub stored: bool,
}

/// All verbs of a stored resource.
pub const ALL_VERBS: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

/// Serves a connect subresource or a create-only kind. The body is decoded JSON where there is one.
#[async_trait]
pub trait Creator: Send + Sync {
    /// Handles a POST of `body` (already decoded and defaulted) and gives the answer's object.
    async fn create(
        &self,
        user: &User,
        namespace: &str,
        name: &str,
        body: Value,
        dry_run: bool,
    ) -> Result<Value, ApiError>;
}

// === GroupResource ===

impl GroupResource {
    /// A key from two texts.
    pub fn new(group: impl Into<Text>, resource: impl Into<Text>) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::error::qualified(&self.group, &self.resource))
    }
}

// === Descriptor ===

impl Descriptor {
    /// A stored resource with all verbs; plural, list kind and singular derived from the kind.
    /// `resource` is the plural.
    pub fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        resource: &'static str,
        scope: Scope,
        strategy: impl Strategy,
    ) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            resource: resource.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: ALL_VERBS,
            subresources: Vec::new(),
            strategy: Arc::new(strategy),
            allocators: Vec::new(),
            storage_prefix: resource.into(),
            stored: true,
        }
    }

    /// Adds short names.
    pub fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|n| Text::Borrowed(*n)).collect();
        self
    }

    /// Adds categories.
    pub fn category(mut self, names: &[&'static str]) -> Self {
        self.categories = names.iter().map(|n| Text::Borrowed(*n)).collect();
        self
    }

    /// Adds `/status`.
    pub fn status(self) -> Self {
        self.sub("status", SubresourceKind::Status)
    }

    /// Adds any subresource.
    pub fn sub(mut self, name: &'static str, kind: SubresourceKind) -> Self {
        self.subresources.push(Subresource {
            name: name.into(),
            kind,
        });
        self
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The key of this resource's cache.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}/{}", self.resource, self.group, self.version)
    }
}
