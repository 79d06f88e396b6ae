//! What every part sees of the cluster: typed reads from the one shared cache, writes through
//! `kube::Api`. A part cannot tell whether the API server is in this process.

#![forbid(unsafe_code)]

pub mod cache;
pub mod entry;
pub mod limits;
pub mod lister;
pub mod memory;
pub mod recorder;

pub use cache::{Cache, Change, ChangeKind, Reads, Subscription};
pub use entry::{Controller, Entry};
pub use lister::Lister;
pub use recorder::{EventType, Recorder};

use std::sync::Arc;

use machinery::GroupResource;
use machinery::request::User;

/// The error of every write: kube's, whose `Api` variant carries the server's `Status`.
pub use kube::Error;
pub use kube::api;

/// A handle for one part, under that part's own identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    reads: Arc<dyn Reads>,
    user: Arc<User>,
}

/// A Kubernetes type that the shared cache can give typed.
pub trait Kind:
    k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>
    + serde::de::DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>
        + serde::de::DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

// === Client ===

impl Client {
    /// A client whose writes go through `kube` (as `user`) and whose reads come from `reads`.
    pub fn new(kube: kube::Client, reads: Arc<dyn Reads>, user: User) -> Self {
        Self {
            kube,
            reads,
            user: Arc::new(user),
        }
    }

    /// The kube client, for `kube::Api` of any shape and for raw requests.
    pub fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Who this client is.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The shared caches.
    pub fn reads(&self) -> &Arc<dyn Reads> {
        &self.reads
    }

    /// Writes (and uncached reads) of one kind in one namespace.
    pub fn namespaced<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        kube::Api::namespaced(self.kube.clone(), namespace)
    }

    /// Writes (and uncached reads) of one kind without a namespace.
    pub fn all<K>(&self) -> kube::Api<K>
    where
        K: kube::Resource,
        K::DynamicType: Default,
    {
        kube::Api::all(self.kube.clone())
    }

    /// Typed reads of a built-in kind from the shared cache. Fails where the server does not serve it.
    pub fn lister<K: Kind + k8s_openapi::Resource>(&self) -> Result<Lister<K>, NotServed> {
        let gr = GroupResource::new(K::GROUP, K::URL_PATH_SEGMENT);
        Ok(Lister::new(self.cache(&gr)?))
    }

    /// The shared cache of any resource, built-in or custom.
    pub fn cache(&self, gr: &GroupResource) -> Result<Arc<dyn Cache>, NotServed> {
        self.reads.cache(gr).ok_or_else(|| NotServed(gr.clone()))
    }
}

/// The server does not serve this resource.
#[derive(Debug, thiserror::Error)]
#[error("resource {0} is not served")]
pub struct NotServed(pub GroupResource);

/// The `Status` code of an API error, or `None` for errors of another kind.
pub fn status_code(e: &Error) -> Option<u16> {
    match e {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The server's own words, or those of the error where the server gave no answer.
pub fn message(e: &Error) -> String {
    match e {
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A delete's precondition: the object of this uid, and not another that was made under its name.
pub fn only_uid(uid: &str) -> Option<api::Preconditions> {
    Some(api::Preconditions {
        uid: Some(uid.into()),
        resource_version: None,
    })
}

/// Whether a write failed because its namespace is being deleted.
pub fn is_namespace_terminating(e: &Error) -> bool {
    let Error::Api(status) = e else { return false };
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes
        .into_iter()
        .any(|c| c.reason == "NamespaceTerminating")
}

/// Whether a write failed with 404.
pub fn is_not_found(e: &Error) -> bool {
    status_code(e) == Some(404)
}

/// Whether a write failed with reason Conflict.
pub fn is_conflict(e: &Error) -> bool {
    matches!(e, Error::Api(s) if s.reason == "Conflict")
}

/// Whether a create failed with reason AlreadyExists.
pub fn is_already_exists(e: &Error) -> bool {
    matches!(e, Error::Api(s) if s.reason == "AlreadyExists")
}
