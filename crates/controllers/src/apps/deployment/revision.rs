//! The new ReplicaSet: found or made, and its revision kept above all others.
//! Upstream: pkg/controller/deployment/sync.go, getNewReplicaSet.

use api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::core::v1::PodTemplateSpec;
use api::meta::ObjectMeta;
use client::EventType;
use client::recorder::reference;
use reconciler::{During, Error};

use super::plan::HASH_LABEL;
use super::{Deployments, annotations, plan, status};
use crate::common::object::{self, Object};
use crate::common::{act, hash};

/// The new ReplicaSet, if there is one, and the old ones, oldest first.
pub type Split = (Option<ReplicaSet>, Vec<ReplicaSet>);

impl Deployments {
    /// Tells the new ReplicaSet from the old ones and brings its revision up to date; makes one if asked to.
    pub(super) async fn split(
        &self,
        d: &mut Deployment,
        sets: &[ReplicaSet],
        create: bool,
    ) -> Result<Split, Error> {
        let found = plan::find_new(d, sets).cloned();
        let mut old: Vec<ReplicaSet> = sets
            .iter()
            .filter(|s| found.as_ref().is_none_or(|f| f.uid() != s.uid()))
            .cloned()
            .collect();
        old.sort_by(plan::oldest_first);
        let highest = old.iter().filter_map(annotations::revision).max();
        let revision = highest.unwrap_or(0) + 1;
        let new = match found {
            Some(set) => Some(self.refresh(d, set, revision).await?),
            None if create => Some(self.create_new(d, &old, revision).await?),
            None => None,
        };
        Ok((new, old))
    }

    async fn refresh(
        &self,
        d: &mut Deployment,
        mut set: ReplicaSet,
        revision: i64,
    ) -> Result<ReplicaSet, Error> {
        let wanted = plan::spec(d).min_ready_seconds.unwrap_or(0);
        let mut changed = annotations::refresh_new(d, &mut set, revision, true);
        if set.spec.min_ready_seconds.unwrap_or(0) != wanted {
            set.spec.min_ready_seconds = Some(wanted);
            changed = true;
        }
        if changed {
            let done = act::update(&self.client, &set).await;
            return done.during("update the new replica set");
        }
        let mut told = annotations::set_revision(d, set.annotation(annotations::REVISION));
        if status::knows_no_progress(d) {
            let message = format!("Found new replica set {:?}", set.name());
            let now = self.clock.seconds();
            told |= status::progressing(d, "True", "FoundNewReplicaSet", message, now);
        }
        if told {
            *d = self.write_status(d).await?;
        }
        Ok(set)
    }

    async fn create_new(
        &self,
        d: &mut Deployment,
        old: &[ReplicaSet],
        revision: i64,
    ) -> Result<ReplicaSet, Error> {
        let mut set = new_set(d);
        let size = plan::new_size(d, 0, plan::total(old));
        set.spec.replicas = Some(size);
        annotations::refresh_new(d, &mut set, revision, false);
        let (made, fresh) = match act::create(&self.client, &set).await {
            Ok(made) => (made, true),
            Err(e) if client::is_already_exists(&e) => (self.existing(d, &set, e).await?, false),
            Err(e) => return Err(self.create_failed(d, &set, e).await),
        };
        let now = self.clock.seconds();
        if fresh && size > 0 {
            let message = format!("Scaled up replica set {} from 0 to {size}", made.name());
            self.recorder.event(
                reference(d),
                EventType::Normal,
                "ScalingReplicaSet",
                &message,
            );
        }
        let mut told = annotations::set_revision(d, &revision.to_string());
        if fresh {
            let message = format!("Created new replica set {:?}", made.name());
            told |= status::progressing(d, "True", "NewReplicaSetCreated", message, now);
        }
        if told {
            *d = self.write_status(d).await?;
        }
        Ok(made)
    }

    /// A ReplicaSet of that name is there: ours from an earlier run, or a collision of hashes.
    async fn existing(
        &self,
        d: &mut Deployment,
        wanted: &ReplicaSet,
        refused: client::Error,
    ) -> Result<ReplicaSet, Error> {
        let api = self.client.namespaced::<ReplicaSet>(d.namespace());
        let there = api.get(wanted.name()).await.during("get the replica set")?;
        let same = plan::same_template(&plan::template_of(&there), &plan::spec(d).template);
        if there.controlled_by(d.uid()) && same {
            return Ok(there);
        }
        let s = d.status.get_or_insert_default();
        s.collision_count = Some(s.collision_count.unwrap_or(0) + 1);
        tracing::debug!(deployment = d.name(), set = wanted.name(), "hash collision");
        self.write_status(d).await?;
        Err(refused).during("create the new replica set")
    }

    async fn create_failed(
        &self,
        d: &mut Deployment,
        set: &ReplicaSet,
        error: client::Error,
    ) -> Error {
        if !client::is_namespace_terminating(&error) {
            let message = format!(
                "Failed to create new replica set {:?}: {}",
                set.name(),
                client::message(&error)
            );
            let reason = "ReplicaSetCreateError";
            let now = self.clock.seconds();
            self.recorder
                .event(reference(d), EventType::Warning, reason, &message);
            if status::progressing(d, "False", reason, message, now)
                && let Err(second) = self.write_status(d).await
            {
                tracing::debug!(error = %second, "the failure is not told in the status");
            }
        }
        Error::Api {
            operation: "create the new replica set",
            source: error,
        }
    }
}

/// A ReplicaSet of the current template, without size and annotations.
fn new_set(d: &Deployment) -> ReplicaSet {
    let spec = plan::spec(d);
    let collisions = d.status.as_ref().and_then(|s| s.collision_count);
    let hash = hash::template(&spec.template, collisions);
    let mut template: PodTemplateSpec = spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.into(), hash.clone());
    let room = api::names::DNS1123_SUBDOMAIN_MAX - hash.len() - 1;
    let base: String = d.name().chars().take(room).collect();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}")),
            namespace: d.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![object::controller_ref(d)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}
