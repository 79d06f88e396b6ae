//! ReplicaSets, and ReplicationControllers by the same code: as many pods of a template as asked for.
//! Upstream: pkg/controller/replicaset. Expectations are not needed: each write waits until the
//! cache that the next run reads has it.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use api::core::v1::{Pod, PodTemplateSpec};
use api::selector::LabelSelector;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, Recorder};
use reconciler::{
    Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake, owners,
};

use crate::common::act::{self, Pods};
use crate::common::claim::{Claim, Namespaced};
use crate::common::object::{self, Object};
use crate::common::{pods, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    account: "replicaset-controller",
    component: "replicaset-controller",
    needs: &[("apps", "replicasets"), ("", "pods")],
    build: |setup| Ok(reconciler::<ReplicaSet>("replicaset-controller", setup)),
};

/// A kind that keeps replicas of one pod template.
pub trait Replicas: Namespaced {
    /// `spec.replicas`.
    fn replicas(&self) -> i32;
    /// `spec.minReadySeconds`.
    fn min_ready_seconds(&self) -> i32;
    /// `spec.selector`; `None` where it is malformed.
    fn selector(&self) -> Option<LabelSelector>;
    /// `spec.template`.
    fn template(&self) -> PodTemplateSpec;
    /// The status, in ReplicaSet's words.
    fn status(&self) -> ReplicaSetStatus;
    /// The same object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
    /// Whether `status.terminatingReplicas` is kept.
    const TERMINATING: bool;
}

impl Replicas for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn selector(&self) -> Option<LabelSelector> {
        selector::parse(&self.spec.selector)
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.template.clone().unwrap_or_default()
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self {
            status: Some(status),
            ..self.clone()
        }
    }

    const TERMINATING: bool = true;
}

/// The reconciler of one kind of replicas.
pub fn reconciler<S: Replicas>(name: &'static str, setup: &Setup) -> Reconciler {
    let this = Manager::<S> {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
        kind: std::marker::PhantomData,
    };
    let orphans = setup.client.clone();
    Reconciler::new(name, 5, this)
        .on(Trigger::own(S::GROUP, S::URL_PATH_SEGMENT))
        .on(Trigger::map("", "pods", move |e| {
            let mut wakes = owners(e, S::KIND);
            wakes.extend(orphan_matches::<S>(&orphans, e));
            wakes
        }))
}

/// The sets whose selector matches a pod that nobody owns.
fn orphan_matches<S: Replicas>(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    if e.entry.controller.is_some() || e.deleted() {
        return Vec::new();
    }
    let unchanged = |b: &Arc<client::Entry>| b.labels == e.entry.labels && b.controller.is_none();
    if e.before.is_some_and(unchanged) {
        return Vec::new();
    }
    let Ok(sets) = client.lister::<S>() else {
        return Vec::new();
    };
    let all = sets.list(Some(&e.entry.namespace));
    let matching = all.iter().filter(|s| {
        let selector = s.selector().filter(|s| !s.is_empty());
        selector.is_some_and(|sel| selector::matches_entry(&sel, e.entry))
    });
    matching
        .map(|s| Key::new(s.namespace(), s.name()).into())
        .collect()
}

struct Manager<S> {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    kind: std::marker::PhantomData<fn() -> S>,
}

#[async_trait]
impl<S: Replicas> Reconcile for Manager<S> {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let sets = self.client.lister::<S>()?;
        let Some(set) = sets.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let Some(selector) = set.selector() else {
            tracing::error!(set = %key, "the selector is malformed, the object is skipped");
            return Ok(Next::Done);
        };
        let claim = Claim {
            client: &self.client,
            owner: &*set,
            selector: &selector,
            finalizer: None,
        };
        let active: Vec<Arc<Pod>> = claim.all(pods::active, |_| true).await?;
        let managed = if set.deleting() {
            Ok(())
        } else {
            self.manage(&set, &active).await
        };
        // The status is of what is there now, not of what was there before the writes.
        let now = self.clock.now();
        let owned = self.owned(&set)?;
        let failure = managed
            .as_ref()
            .err()
            .map(|(reason, e)| (*reason, client::message(e)));
        let status = plan::status(&*set, &owned, failure, now);
        if plan::differs(&set.status(), &status) {
            act::update_status(&self.client, &set.with_status(status.clone()))
                .await
                .during("update the status")?;
        }
        managed.map_err(|(_, source)| Error::Api {
            operation: "manage replicas",
            source,
        })?;
        Ok(self.next(&*set, &owned).into())
    }
}

impl<S: Replicas> Manager<S> {
    /// Pods of the set as the cache has them now.
    fn owned(&self, set: &S) -> Result<Vec<Arc<Pod>>, Error> {
        let pods = self.client.lister::<Pod>()?;
        let uid = set.uid();
        Ok(pods.select(Some(set.namespace()), |e| {
            e.controller.as_ref().is_some_and(|c| &*c.uid == uid)
        }))
    }

    /// When the next ready pod becomes available.
    fn next(&self, set: &S, owned: &[Arc<Pod>]) -> Option<Duration> {
        let now = self.clock.now();
        let min = set.min_ready_seconds();
        let active = owned.iter().filter(|p| pods::active(p));
        active
            .filter_map(|p| pods::becomes_available(p, min, now))
            .min()
    }

    async fn manage(
        &self,
        set: &S,
        active: &[Arc<Pod>],
    ) -> Result<(), (&'static str, client::Error)> {
        let owner = Pods {
            client: &self.client,
            recorder: &self.recorder,
            owner: reference(set),
        };
        match plan::difference(set.replicas(), active.len()) {
            plan::Difference::None => Ok(()),
            plan::Difference::Create(count) => {
                let template = set.template();
                let pod =
                    pods::from_template(&template, set.namespace(), object::controller_ref(set));
                let (_, error) = act::slow_start(count, |_| async {
                    match owner.create(&pod).await {
                        // Nothing more can be made there, and that is fine.
                        Err(e) if client::is_namespace_terminating(&e) => Ok(()),
                        done => done,
                    }
                })
                .await;
                error.map_or(Ok(()), |e| Err(("FailedCreate", e)))
            }
            plan::Difference::Delete(count) => {
                let related = self.related(set);
                let victims = plan::victims(active, &related, count, self.clock.now());
                let deletions = victims
                    .iter()
                    .map(|p| owner.delete(p.namespace(), p.name()))
                    .collect();
                let error = act::all(deletions).await;
                error.map_or(Ok(()), |e| Err(("FailedDelete", e)))
            }
        }
    }

    /// Pods of all sets that have the same controller as this one (a Deployment's ReplicaSets).
    fn related(&self, set: &S) -> Vec<Arc<Pod>> {
        let (Ok(sets), Ok(pods)) = (self.client.lister::<S>(), self.client.lister::<Pod>()) else {
            return Vec::new();
        };
        let mut uids = vec![set.uid().to_string()];
        if let Some(owner) = set.controller() {
            let siblings = sets.select(Some(set.namespace()), |e| {
                e.controller.as_ref().is_some_and(|c| *c.uid == *owner.uid)
            });
            uids.extend(siblings.iter().map(|s| s.uid().to_string()));
        }
        pods.select(Some(set.namespace()), |e| {
            let owner = e.controller.as_ref();
            owner.is_some_and(|c| uids.iter().any(|u| **u == *c.uid))
        })
    }
}
