//! Writes that several controllers make in the same way.

use std::future::Future;

use api::core::v1::{ObjectReference, Pod};
use api::meta::ObjectMeta;
use client::api::{DeleteParams, PatchParams, PostParams};
use client::{Client, EventType, Kind, Recorder};
use futures::{StreamExt, stream};

use crate::common::claim::Namespaced;
use crate::common::object::Object;
use crate::limits;

/// The field manager of all writes that are not applies, as upstream's binary.
pub const MANAGER: &str = "kube-controller-manager";

/// Parameters of creates and updates.
pub fn post_params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    }
}

/// Parameters of patches.
pub fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    }
}

/// Waits until the shared cache has what a write gave back.
pub async fn seen<K: Kind + api::k8s_openapi::Resource>(client: &Client, meta: &ObjectMeta) {
    let revision = meta
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok());
    if let (Some(revision), Ok(lister)) = (revision, client.lister::<K>()) {
        lister.cache().wait_for(revision).await;
    }
}

/// Creates an object and waits until readers see it.
pub async fn create<K: Namespaced>(client: &Client, object: &K) -> Result<K, client::Error> {
    let api = client.namespaced::<K>(object.namespace());
    let made = api.create(&post_params(), object).await?;
    seen::<K>(client, made.metadata()).await;
    Ok(made)
}

/// Replaces an object and waits until readers see it.
pub async fn update<K: Namespaced>(client: &Client, object: &K) -> Result<K, client::Error> {
    let api = client.namespaced::<K>(object.namespace());
    let made = api.replace(object.name(), &post_params(), object).await?;
    seen::<K>(client, made.metadata()).await;
    Ok(made)
}

/// Replaces an object's status and waits until readers see it.
pub async fn update_status<K: Namespaced>(client: &Client, object: &K) -> Result<K, client::Error> {
    let api = client.namespaced::<K>(object.namespace());
    let made = api
        .replace_status(object.name(), &post_params(), object)
        .await?;
    seen::<K>(client, made.metadata()).await;
    Ok(made)
}

/// Deletes an object; one that is gone already is no error.
pub async fn delete<K: Namespaced>(
    client: &Client,
    namespace: &str,
    name: &str,
    params: &DeleteParams,
) -> Result<(), client::Error> {
    let api = client.namespaced::<K>(namespace);
    match api.delete(name, params).await {
        Ok(answer) => {
            if let Some(object) = answer.left() {
                seen::<K>(client, object.metadata()).await;
            }
            Ok(())
        }
        Err(e) if client::is_not_found(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Runs `count` makings in batches of 1, 2, 4 …, each in parallel, until a batch has an error. Gives
/// how many succeeded, and the first error.
pub async fn slow_start<F, Fut, E>(count: usize, make: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut done, mut started, mut batch) = (0, 0, limits::SLOW_START);
    while started < count {
        let size = batch.min(count - started);
        let results = futures::future::join_all((started..started + size).map(&make)).await;
        started += size;
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        done += good.len();
        if let Some(error) = bad.into_iter().find_map(Result::err) {
            return (done, Some(error));
        }
        batch *= 2;
    }
    (done, None)
}

/// Runs makings in parallel, at most `limits::PARALLEL` at once; gives the first error.
pub async fn all<Fut, E>(futures: Vec<Fut>) -> Option<E>
where
    Fut: Future<Output = Result<(), E>>,
{
    let results: Vec<Result<(), E>> = stream::iter(futures)
        .buffer_unordered(limits::PARALLEL)
        .collect()
        .await;
    results.into_iter().find_map(Result::err)
}

/// Makes and deletes the pods of one owner, with events about it.
pub struct Pods<'a> {
    pub client: &'a Client,
    pub recorder: &'a Recorder,
    pub owner: ObjectReference,
}

impl Pods<'_> {
    /// Creates a pod.
    pub async fn create(&self, pod: &Pod) -> Result<(), client::Error> {
        let event = |kind, reason: &str, message: &str| {
            self.recorder
                .event(self.owner.clone(), kind, reason, message);
        };
        match create(self.client, pod).await {
            Ok(made) => {
                let message = format!("Created pod: {}", made.name());
                event(EventType::Normal, "SuccessfulCreate", &message);
                Ok(())
            }
            Err(e) => {
                if !client::is_namespace_terminating(&e) {
                    let message = format!("Error creating: {}", client::message(&e));
                    event(EventType::Warning, "FailedCreate", &message);
                }
                Err(e)
            }
        }
    }

    /// Deletes a pod with its own grace period.
    pub async fn delete(&self, namespace: &str, name: &str) -> Result<(), client::Error> {
        match delete::<Pod>(self.client, namespace, name, &DeleteParams::default()).await {
            Ok(()) => {
                let message = format!("Deleted pod: {name}");
                let owner = self.owner.clone();
                self.recorder
                    .event(owner, EventType::Normal, "SuccessfulDelete", &message);
                Ok(())
            }
            Err(e) => {
                let message = format!("Error deleting: {}", client::message(&e));
                let owner = self.owner.clone();
                self.recorder
                    .event(owner, EventType::Warning, "FailedDelete", &message);
                Err(e)
            }
        }
    }
}
