//! ControllerRevisions: earlier templates of DaemonSets and StatefulSets.
//! Upstream: pkg/controller/history.

use std::collections::BTreeMap;

use api::apps::v1::ControllerRevision;
use api::k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use api::meta::ObjectMeta;
use client::api::DeleteParams;
use client::{Client, Entry};
use reconciler::{During, Error};
use serde_json::{Value, json};

use crate::common::act;
use crate::common::claim::Namespaced;
use crate::common::object::{self, Object};

/// The patch that brings an object back to its template of now.
pub fn data(entry: &Entry) -> Result<Value, Error> {
    let object = entry
        .value()
        .map_err(|e| Error::Other(format!("the object does not parse: {e}")))?;
    let mut template = object["spec"]["template"].clone();
    template["$patch"] = json!("replace");
    Ok(json!({"spec": {"template": template}}))
}

/// The template in such a patch.
pub fn template(revision: &ControllerRevision) -> Option<api::core::v1::PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The number of a revision.
pub fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

/// A revision that is not stored yet.
pub fn new<K: Namespaced>(
    owner: &K,
    name: String,
    labels: BTreeMap<String, String>,
    data: &Value,
    revision: i64,
) -> ControllerRevision {
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone(),
            owner_references: Some(vec![object::controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data.clone()),
        revision: Some(revision),
    }
}

/// Stores a revision. `None` where its name is taken by another one with other data.
pub async fn create(
    client: &Client,
    revision: &ControllerRevision,
) -> Result<Option<ControllerRevision>, Error> {
    match act::create(client, revision).await {
        Ok(made) => Ok(Some(made)),
        Err(e) if client::is_already_exists(&e) => {
            let api = client.namespaced::<ControllerRevision>(revision.namespace());
            let there = api.get(revision.name()).await.during("get a revision")?;
            Ok((there.data == revision.data).then_some(there))
        }
        Err(e) => Err(e).during("create a revision"),
    }
}

/// Gives a revision another number.
pub async fn renumber(
    client: &Client,
    revision: &ControllerRevision,
    number: i64,
) -> Result<ControllerRevision, Error> {
    let mut new = revision.clone();
    new.revision = Some(number);
    act::update(client, &new).await.during("number a revision")
}

/// Deletes a revision.
pub async fn delete(client: &Client, revision: &ControllerRevision) -> Result<(), Error> {
    let (namespace, name) = (revision.namespace(), revision.name());
    let params = DeleteParams::default();
    act::delete::<ControllerRevision>(client, namespace, name, &params)
        .await
        .during("delete a revision")
}

/// Deletes the oldest of the revisions that nothing uses, beyond a limit.
pub async fn trim(
    client: &Client,
    mut unused: Vec<ControllerRevision>,
    limit: i32,
) -> Result<(), Error> {
    let keep = usize::try_from(limit).unwrap_or(0);
    let drop = unused.len().saturating_sub(keep);
    unused.sort_by_key(|r| (number(r), r.created()));
    for revision in unused.iter().take(drop) {
        delete(client, revision).await?;
    }
    Ok(())
}
