//! Deployments: rolling and recreating updates of ReplicaSets, pausing, scaling in proportion, rolling
//! back, history. Upstream: pkg/controller/deployment.

mod annotations;
mod plan;
mod revision;
mod rollback;
mod rollout;
mod status;

use std::sync::Arc;

use api::apps::v1::{Deployment, ReplicaSet};
use api::core::v1::Pod;
use async_trait::async_trait;
use client::recorder::reference;
use client::{Client, EventType, Recorder};
use reconciler::{
    Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake, owners,
};

use crate::common::act;
use crate::common::claim::Claim;
use crate::common::object::Object;
use crate::common::{pods, selector};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    account: "deployment-controller",
    component: "deployment-controller",
    needs: &[
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("", "pods"),
    ],
    build: |setup| Ok(build(setup)),
};

fn build(setup: &Setup) -> Reconciler {
    let this = Deployments {
        client: setup.client.clone(),
        recorder: setup.recorder.clone(),
        clock: setup.clock.clone(),
    };
    let (sets, pods) = (setup.client.clone(), setup.client.clone());
    Reconciler::new("deployment-controller", 5, this)
        .retries(15)
        .on(Trigger::own("apps", "deployments"))
        .on(Trigger::map("apps", "replicasets", move |e| {
            let mut wakes = owners(e, "Deployment");
            wakes.extend(orphan_matches(&sets, e));
            wakes
        }))
        .on(Trigger::map("", "pods", move |e| pod_gone(&pods, e)))
}

/// Deployments whose selector matches a ReplicaSet that nobody owns.
fn orphan_matches(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    if e.entry.controller.is_some() || e.deleted() {
        return Vec::new();
    }
    let Ok(deployments) = client.lister::<Deployment>() else {
        return Vec::new();
    };
    let all = deployments.list(Some(&e.entry.namespace));
    let matching = all.iter().filter(|d| {
        let parsed = selector::parse(&d.spec.selector);
        parsed.is_some_and(|s| !s.is_empty() && selector::matches_entry(&s, e.entry))
    });
    matching
        .map(|d| Key::new(d.namespace(), d.name()).into())
        .collect()
}

/// A deployment that recreates waits for its old pods to go.
fn pod_gone(client: &Client, e: &Event<'_>) -> Vec<Wake> {
    let owner = e.entry.controller.as_ref();
    let Some(owner) = owner.filter(|c| e.deleted() && &*c.kind == "ReplicaSet") else {
        return Vec::new();
    };
    let (Ok(sets), Ok(deployments)) =
        (client.lister::<ReplicaSet>(), client.lister::<Deployment>())
    else {
        return Vec::new();
    };
    let namespace = &e.entry.namespace;
    let set = sets.cache().get(namespace, &owner.name);
    let above = set.and_then(|s| s.controller.clone());
    let Some(above) = above.filter(|c| &*c.kind == "Deployment") else {
        return Vec::new();
    };
    let deployment = deployments.get(namespace, &above.name);
    if deployment.is_some_and(|d| plan::recreates(&d)) {
        vec![Key::new(namespace, &above.name).into()]
    } else {
        Vec::new()
    }
}

pub(super) struct Deployments {
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

#[async_trait]
impl Reconcile for Deployments {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let deployments = self.client.lister::<Deployment>()?;
        let Some(seen) = deployments.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        match self.sync((*seen).clone()).await {
            // The namespace is going away and takes the deployment with it.
            Err(Error::Api { source, .. }) if client::is_namespace_terminating(&source) => {
                Ok(Next::Done)
            }
            done => done,
        }
    }
}

impl Deployments {
    async fn sync(&self, mut d: Deployment) -> Result<Next, Error> {
        let parsed = selector::parse(&d.spec.selector);
        let Some(selector) = parsed.filter(|s| !s.is_empty()) else {
            return self.selects_all(d).await;
        };
        let claim = Claim {
            client: &self.client,
            owner: &d,
            selector: &selector,
            finalizer: None,
        };
        let claimed: Vec<Arc<ReplicaSet>> = claim.all(|_| true, |_| true).await?;
        let sets: Vec<ReplicaSet> = claimed.iter().map(|s| (**s).clone()).collect();
        if d.deleting() {
            let (new, old) = self.split(&mut d, &sets, false).await?;
            return self.sync_status(&d, new, old).await;
        }
        if status::mark_paused(&mut d, self.clock.seconds()) {
            d = self.write_status(&d).await?;
        }
        if plan::spec(&d).paused == Some(true) {
            return self.scale_only(d, &sets).await;
        }
        if let Some(revision) = annotations::rollback_to(&d) {
            return self.rollback(d, &sets, revision).await;
        }
        if plan::is_scaling_event(&d, &sets) {
            return self.scale_only(d, &sets).await;
        }
        if plan::recreates(&d) {
            self.rollout_recreate(d, &sets).await
        } else {
            self.rollout_rolling(d, &sets).await
        }
    }

    async fn selects_all(&self, mut d: Deployment) -> Result<Next, Error> {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        self.recorder
            .event(reference(&d), EventType::Warning, "SelectingAll", message);
        let generation = d.generation();
        let status = d.status.get_or_insert_default();
        if status.observed_generation.unwrap_or(0) < generation {
            status.observed_generation = Some(generation);
            self.write_status(&d).await?;
        }
        Ok(Next::Done)
    }

    /// Writes the status, and with it the annotations: the revision travels that way.
    async fn write_status(&self, d: &Deployment) -> Result<Deployment, Error> {
        act::update_status(&self.client, d)
            .await
            .during("update the status")
    }

    /// Whether pods of other ReplicaSets than the new one still run.
    fn old_pods_run(&self, new: Option<&ReplicaSet>, old: &[ReplicaSet]) -> Result<bool, Error> {
        if old.iter().any(|s| plan::status_of(s).replicas > 0) {
            return Ok(true);
        }
        let Some(any) = old.first() else {
            return Ok(false);
        };
        let pods = self.client.lister::<Pod>()?;
        let is_old =
            |uid: &str| new.is_none_or(|n| n.uid() != uid) && old.iter().any(|s| s.uid() == uid);
        let theirs = pods.select(Some(any.namespace()), |e| {
            e.controller.as_ref().is_some_and(|c| is_old(&c.uid))
        });
        Ok(theirs.iter().any(|p| !pods::terminal(p)))
    }
}
