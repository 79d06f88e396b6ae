//! Who asks for what: identities, request attributes, and the traits that authenticators,
//! authorizers and admission plugins implement. Upstream: k8s.io/apiserver authentication,
//! authorization and admission interfaces.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use crate::descriptor::{Descriptor, SubresourceKind};
use crate::error::ApiError;

/// Upstream's `user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What an authenticator found.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: User,
    pub audiences: Vec<String>,
}

/// What authenticators look at.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The verified client certificate chain in DER, leaf first; empty if none was given.
    pub certificates: &'a [Vec<u8>],
    /// The chain of a front proxy, who tells the user by headers; empty if it is none.
    pub proxy_certificates: &'a [Vec<u8>],
    /// The bearer token, without the scheme.
    pub bearer: Option<&'a str>,
    /// For whom the token must be; empty: for the server itself.
    pub audiences: &'a [String],
    pub headers: &'a http::HeaderMap,
    /// The request's path: anonymous users are let in for some paths only.
    pub path: &'a str,
}

/// One way of telling who asks. `Ok(None)` means "not mine"; an error is a 401 unless a later one succeeds.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Name for logs and metrics.
    fn name(&self) -> &'static str;
    /// Tells the user of these credentials; `audiences` are those the server accepts.
    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError>;
}

/// Upstream's `authorizer.Attributes`.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    pub user: User,
    /// `get`, `list`, `create` ..., or the lower-case HTTP method for non-resource paths.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The path, for non-resource requests.
    pub path: String,
    pub is_resource: bool,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

/// An authorizer's answer; the text is the reason shown to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    NoOpinion(String),
    /// It could not be decided. Where that does not deny, the next authorizer is asked; if none allows, the
    /// request is answered with a 500.
    Failed {
        denied: bool,
        reason: String,
        error: String,
    },
}

/// One way of deciding whether a request is allowed.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Name for logs and metrics.
    fn name(&self) -> &'static str;
    /// Decides.
    async fn authorize(&self, a: &Attributes) -> Decision;
    /// Why the rules of a user are not all.
    fn rules_problem(&self, _user: &User) -> Option<String> {
        None
    }
    /// The rules of a user in a namespace as (resourceRules, nonResourceRules, incomplete), for SelfSubjectRulesReview.
    async fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>, bool);
}

/// Upstream's `admission.Operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way in, as admission sees it.
pub struct Attempt<'a> {
    pub operation: Operation,
    pub descriptor: &'a Descriptor,
    /// `""` for the main resource.
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a User,
    /// The new object; `None` for deletes. For connects the options object.
    pub object: Option<Value>,
    /// The object as stored; `None` for creates.
    pub before: Option<&'a Value>,
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions or DeleteOptions as given; null for connects.
    pub options: &'a Value,
    /// When the request is answered with a timeout; plugins that call others must be done before.
    pub deadline: Option<Instant>,
    /// Texts to send as `Warning` headers.
    pub warnings: Warnings,
    /// Annotations for the audit event.
    pub audit_annotations: Annotations,
    /// The second round that plugins may ask for.
    pub reinvocation: Reinvocation,
    /// The other served versions of the resource.
    pub versions: &'a dyn Versions,
}

/// Texts for the client; validating plugins may add some too.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

/// Annotations for the audit event; validating plugins may add some too.
#[derive(Debug, Default)]
pub struct Annotations(Mutex<BTreeMap<String, String>>);

/// Whether and why mutating plugins run once more. Upstream: admission.ReinvocationContext.
#[derive(Default)]
pub struct Reinvocation {
    /// This is the second round.
    pub again: bool,
    /// Something that another plugin should see has changed: there shall be a second round.
    pub wanted: bool,
    state: HashMap<&'static str, Box<dyn Any + Send + Sync>>,
}

/// The served versions of what is stored. Upstream: EquivalentResourceMapper and the object convertor.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Every served version of what is stored where `d`'s objects are, in order; `d`'s own is among them.
    fn equivalents(&self, d: &Descriptor) -> Vec<Arc<Descriptor>>;
    /// An object of one version as another shows it.
    async fn convert(
        &self,
        object: Value,
        from: &Descriptor,
        to: &Descriptor,
    ) -> Result<Value, ApiError>;
}

/// For resources of one version.
pub struct OneVersion;

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// What a plugin takes part in. Upstream: admission.MutationInterface and ValidationInterface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    Mutate,
    Validate,
    Both,
}

impl Steps {
    /// Whether objects may be changed.
    pub fn mutates(self) -> bool {
        self != Self::Validate
    }

    /// Whether objects may be refused as they will be stored.
    pub fn validates(self) -> bool {
        self != Self::Mutate
    }
}

/// One admission plugin. Chain order is the order of the slice in crate `admission`.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Upstream's plugin name.
    fn name(&self) -> &'static str;
    /// Whether the plugin looks at this kind of write at all.
    fn handles(&self, operation: Operation) -> bool;
    /// Which of `mutate` and `validate` it has; the others are not asked.
    fn steps(&self) -> Steps;
    /// May change `a.object`.
    async fn mutate(&self, _a: &mut Attempt<'_>) -> Result<(), ApiError> {
        Ok(())
    }
    /// May refuse.
    async fn validate(&self, _a: &Attempt<'_>) -> Result<(), ApiError> {
        Ok(())
    }
    /// The plugin's counters as Prometheus text.
    fn metrics(&self) -> String {
        String::new()
    }
}

// === User ===

impl User {
    /// A user with groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_string()).collect(),
            ..Self::default()
        }
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

// === Warnings ===

impl Warnings {
    /// Adds one.
    pub fn push(&self, text: String) {
        self.0.lock().push(text);
    }

    /// Takes all there are.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

// === Annotations ===

impl Annotations {
    /// Adds one. What is there already under its key stays, as upstream has it.
    pub fn insert(&self, key: impl Into<String>, value: impl Into<String>) {
        self.0.lock().entry(key.into()).or_insert(value.into());
    }

    /// Takes all there are.
    pub fn take(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut *self.0.lock())
    }
}

// === Reinvocation ===

impl Reinvocation {
    /// What a plugin remembers from round to round.
    pub fn state<T: Any + Send + Sync + Default>(&mut self, plugin: &'static str) -> &mut T {
        let known = self.state.entry(plugin);
        let state = known.or_insert_with(|| Box::new(T::default()));
        if !state.is::<T>() {
            *state = Box::new(T::default());
        }
        state.downcast_mut::<T>().expect("it was just made of T")
    }
}

// === Versions ===

#[async_trait]
impl Versions for OneVersion {
    fn equivalents(&self, d: &Descriptor) -> Vec<Arc<Descriptor>> {
        vec![Arc::new(d.clone())]
    }

    async fn convert(
        &self,
        object: Value,
        _from: &Descriptor,
        _to: &Descriptor,
    ) -> Result<Value, ApiError> {
        Ok(object)
    }
}

impl Descriptor {
    /// The kind of the objects that an endpoint takes: `""` is the main resource.
    pub fn kind_of(&self, subresource: &str) -> GroupVersionKind {
        let of = |group: &str, version: &str, kind: &str| GroupVersionKind {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        };
        let sub = self.subresources.iter().find(|s| s.name == subresource);
        match sub.map(|s| &s.kind) {
            Some(SubresourceKind::Scale { .. }) => of("autoscaling", "v1", "Scale"),
            Some(SubresourceKind::Connect {
                kind,
                group,
                version,
                ..
            }) => of(group, version, kind),
            _ => of(&self.group, &self.version, &self.kind),
        }
    }
}

// === Attempt ===

impl<'a> Attempt<'a> {
    /// A write of the main resource that says nothing but this.
    pub fn new(operation: Operation, descriptor: &'a Descriptor, user: &'a User) -> Self {
        Self {
            operation,
            descriptor,
            subresource: "",
            namespace: "",
            name: "",
            user,
            object: None,
            before: None,
            dry_run: false,
            options: &Value::Null,
            deadline: None,
            warnings: Warnings::default(),
            audit_annotations: Annotations::default(),
            reinvocation: Reinvocation::default(),
            versions: &OneVersion,
        }
    }

    /// The kind of the object: that of the subresource where one is written.
    pub fn kind(&self) -> GroupVersionKind {
        self.descriptor.kind_of(self.subresource)
    }

    /// Whether this is a write of the main resource `group`/`resource`.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty()
            && self.descriptor.group == group
            && self.descriptor.resource == resource
    }

    /// 403 as admission plugins answer: `pods "x" is forbidden: <why>`.
    pub fn forbidden(&self, why: &str) -> ApiError {
        let name = if self.name.is_empty() {
            self.object.as_ref().map(crate::object::name).unwrap_or("")
        } else {
            self.name
        };
        let generated = || {
            let object = self.object.as_ref();
            object.map_or("", |o| crate::object::str_at(o, "metadata.generateName"))
        };
        let name = if name.is_empty() { generated() } else { name };
        let name = if name.is_empty() && self.object.is_some() {
            "Unknown"
        } else {
            name
        };
        ApiError::forbidden(&self.descriptor.group, &self.descriptor.resource, name, why)
    }
}
