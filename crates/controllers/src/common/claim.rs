//! Adoption and release: a controller owns what its selector matches and nothing else.
//! Upstream: pkg/controller/controller_ref_manager.go.

use std::sync::Arc;

use api::k8s_openapi::NamespaceResourceScope;
use api::meta::OwnerReference;
use api::selector::LabelSelector;
use client::api::{Patch, PatchParams};
use client::{Client, Entry, Kind};
use reconciler::{During, Error};
use serde_json::{Value, json};

use crate::common::act;
use crate::common::object::{self, Object};
use crate::common::selector::matches_entry;

/// A kind that lives in namespaces and can be written.
pub trait Namespaced:
    Kind
    + api::k8s_openapi::Resource
    + kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + serde::Serialize
    + std::fmt::Debug
{
}

impl<K> Namespaced for K where
    K: Kind
        + api::k8s_openapi::Resource
        + kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + serde::Serialize
        + std::fmt::Debug
{
}

/// What is claimed for whom.
pub struct Claim<'a, O> {
    pub client: &'a Client,
    pub owner: &'a O,
    pub selector: &'a LabelSelector,
    /// Finalizers that adopted objects get and released ones lose.
    pub finalizer: Option<&'static str>,
}

impl<O: Namespaced> Claim<'_, O> {
    /// All objects of a kind that are the owner's: those it owns and that match, and orphans that match,
    /// which it adopts. What it owns and does not match is released. Objects that are no `candidate` are
    /// left alone; `filter` is a condition beside the selector.
    pub async fn all<K: Namespaced>(
        &self,
        candidate: impl Fn(&K) -> bool + Send + Sync,
        filter: impl Fn(&K) -> bool + Send + Sync,
    ) -> Result<Vec<Arc<K>>, Error> {
        let lister = self.client.lister::<K>()?;
        let uid = self.owner.uid();
        let mut kept = Vec::new();
        let mut rechecked = false;
        for entry in lister.cache().list(Some(self.owner.namespace())) {
            let fits = || matches_entry(self.selector, &entry);
            match &entry.controller {
                Some(c) if &*c.uid == uid => {
                    let typed = client::lister::typed::<K>(&entry);
                    let Some(object) = typed.filter(|o| candidate(o)) else {
                        continue;
                    };
                    if fits() && filter(&object) {
                        kept.push(object);
                    } else if !self.owner.deleting() {
                        self.release::<K>(&entry).await?;
                    }
                }
                Some(_) => {}
                None if self.owner.deleting() || !fits() => {}
                None => {
                    let typed = client::lister::typed::<K>(&entry);
                    let Some(object) = typed.filter(|o| candidate(o) && !o.deleting() && filter(o))
                    else {
                        continue;
                    };
                    if !rechecked {
                        self.recheck().await?;
                        rechecked = true;
                    }
                    if let Some(adopted) = self.adopt(&*object).await? {
                        kept.push(Arc::new(adopted));
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Makes sure, by a live read, that the owner still exists and is not being deleted.
    async fn recheck(&self) -> Result<(), Error> {
        let (namespace, name) = (self.owner.namespace(), self.owner.name());
        let live = self.client.namespaced::<O>(namespace).get(name).await;
        let live = live.during("can't recheck DeletionTimestamp")?;
        if live.uid() != self.owner.uid() {
            let kind = O::KIND;
            return Err(Error::Other(format!(
                "original {kind} {namespace}/{name} is gone: got uid {}, wanted {}",
                live.uid(),
                self.owner.uid()
            )));
        }
        match &live.metadata().deletion_timestamp {
            None => Ok(()),
            Some(t) => Err(Error::Other(format!(
                "{namespace}/{name} has just been deleted at {}",
                t.0
            ))),
        }
    }

    async fn adopt<K: Namespaced>(&self, object: &K) -> Result<Option<K>, Error> {
        let owner: OwnerReference = object::controller_ref(self.owner);
        let mut meta = json!({"uid": object.uid(), "ownerReferences": [owner]});
        if let Some(f) = self.finalizer {
            meta["finalizers"] = json!([f]);
        }
        let patch = Patch::Strategic(json!({"metadata": meta}));
        let api = self.client.namespaced::<K>(object.namespace());
        match api.patch(object.name(), &params(), &patch).await {
            Ok(adopted) => {
                act::seen::<K>(self.client, adopted.metadata()).await;
                Ok(Some(adopted))
            }
            Err(e) if client::is_not_found(&e) => Ok(None),
            Err(e) => Err(e).during("can't adopt"),
        }
    }

    async fn release<K: Namespaced>(&self, entry: &Entry) -> Result<(), Error> {
        let patch = release_patch(&entry.uid, self.owner.uid(), self.finalizer);
        let api = self.client.namespaced::<K>(&entry.namespace);
        let done = api
            .patch(&entry.name, &params(), &Patch::Strategic(patch))
            .await;
        match done {
            Ok(released) => {
                act::seen::<K>(self.client, released.metadata()).await;
                Ok(())
            }
            Err(e) if matches!(client::status_code(&e), Some(404 | 422)) => Ok(()),
            Err(e) => Err(e).during("release"),
        }
    }
}

/// The patch that ends an ownership.
fn release_patch(uid: &str, owner: &str, finalizer: Option<&str>) -> Value {
    let mut meta = json!({"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner}]});
    if let Some(f) = finalizer {
        meta["$deleteFromPrimitiveList/finalizers"] = json!([f]);
    }
    json!({"metadata": meta})
}

fn params() -> PatchParams {
    act::patch_params()
}
