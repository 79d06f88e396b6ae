//! The revisions of a DaemonSet. Upstream: pkg/controller/daemon/update.go.

use std::sync::Arc;

use api::apps::v1::{ControllerRevision, DaemonSet};
use api::core::v1::Pod;
use api::selector::LabelSelector;
use client::Entry;
use client::api::Patch;
use reconciler::{During, Error};
use serde_json::{Value, json};

use super::DaemonSets;
use crate::common::claim::Claim;
use crate::common::object::Object;
use crate::common::{act, hash, revisions};

/// The label that carries a revision's hash, on revisions and pods.
pub const HASH: &str = "controller-revision-hash";

impl DaemonSets {
    /// The revision of the current template, made where missing, and the old ones.
    pub(super) async fn history(
        &self,
        set: &DaemonSet,
        entry: &Entry,
        selector: &LabelSelector,
    ) -> Result<(ControllerRevision, Vec<ControllerRevision>), Error> {
        let claim = Claim {
            client: &self.client,
            owner: set,
            selector,
            finalizer: None,
        };
        let all: Vec<Arc<ControllerRevision>> = claim.all(|_| true, |_| true).await?;
        let data = revisions::data(entry)?;
        let all = all.iter().map(|r| (**r).clone());
        let (mut current, old): (Vec<_>, Vec<_>) = all.partition(|r| r.data.0 == data);
        let next = old.iter().map(revisions::number).max().unwrap_or(0) + 1;
        current.sort_by_key(revisions::number);
        let Some(mut kept) = current.pop() else {
            return Ok((self.create_revision(set, &data, next).await?, old));
        };
        for duplicate in current {
            self.merge(set, &kept, &duplicate).await?;
        }
        if revisions::number(&kept) < next {
            kept = revisions::renumber(&self.client, &kept, next).await?;
        }
        Ok((kept, old))
    }

    async fn create_revision(
        &self,
        set: &DaemonSet,
        data: &Value,
        number: i64,
    ) -> Result<ControllerRevision, Error> {
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let hash = hash::template(&set.spec.template, collisions);
        let meta = set.spec.template.metadata.as_ref();
        let mut labels = meta.and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(HASH.into(), hash.clone());
        let name = format!("{}-{hash}", set.name());
        let revision = revisions::new(set, name, labels, data, number);
        if let Some(made) = revisions::create(&self.client, &revision).await? {
            return Ok(made);
        }
        let mut new = set.clone();
        let status = new.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        act::update_status(&self.client, &new)
            .await
            .during("count a hash collision")?;
        Err(Error::Other(format!(
            "found a hash collision for DaemonSet {}/{}",
            set.namespace(),
            set.name()
        )))
    }

    /// Two revisions say the same: pods of the second take the first's hash, and the second goes.
    async fn merge(
        &self,
        set: &DaemonSet,
        kept: &ControllerRevision,
        duplicate: &ControllerRevision,
    ) -> Result<(), Error> {
        let hash = |r: &ControllerRevision| r.labels().get(HASH).cloned().unwrap_or_default();
        let (to, from) = (hash(kept), hash(duplicate));
        let pods: Vec<Arc<Pod>> = self.owned(set)?;
        for pod in pods.iter().filter(|p| p.labels().get(HASH) == Some(&from)) {
            let patch = json!({"metadata": {"uid": pod.uid(), "labels": {HASH: to}}});
            let api = self.client.namespaced::<Pod>(pod.namespace());
            let params = act::patch_params();
            match api.patch(pod.name(), &params, &Patch::Merge(&patch)).await {
                Err(e) if client::is_not_found(&e) => {}
                done => {
                    done.during("relabel a pod")?;
                }
            }
        }
        revisions::delete(&self.client, duplicate).await
    }
}
