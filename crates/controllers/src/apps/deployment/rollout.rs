//! One step of a rollout, carried out. Upstream: pkg/controller/deployment/{rolling,recreate,sync}.go.

use api::apps::v1::{Deployment, ReplicaSet};
use client::EventType;
use client::api::DeleteParams;
use client::recorder::reference;
use reconciler::{During, Error, Next};

use super::plan::Scaling;
use super::{Deployments, annotations, plan, status};
use crate::common::act;
use crate::common::object::Object;

impl Deployments {
    /// A step of a rolling update.
    pub(super) async fn rollout_rolling(
        &self,
        mut d: Deployment,
        sets: &[ReplicaSet],
    ) -> Result<Next, Error> {
        let (new, mut old) = self.split(&mut d, sets, true).await?;
        let Some(mut new) = new else {
            return Err(Error::Other("the new replica set is missing".into()));
        };
        let to = plan::next_new(&d, &new, &old);
        if self.resize(&d, &mut new, to).await? {
            return self.sync_rollout_status(&d, Some(new), old).await;
        }
        let steps = plan::next_old(&d, &new, &old);
        for step in &steps {
            self.resize(&d, &mut old[step.set], step.to).await?;
        }
        if steps.is_empty() && d.status.as_ref().is_some_and(|s| status::complete(&d, s)) {
            self.clean_history(&d, &old).await?;
        }
        self.sync_rollout_status(&d, Some(new), old).await
    }

    /// A step of a recreating update: old pods go first, all of them.
    pub(super) async fn rollout_recreate(
        &self,
        mut d: Deployment,
        sets: &[ReplicaSet],
    ) -> Result<Next, Error> {
        let (new, mut old) = self.split(&mut d, sets, false).await?;
        let mut scaled = false;
        for set in &mut old {
            scaled |= self.resize(&d, set, 0).await?;
        }
        if scaled || self.old_pods_run(new.as_ref(), &old)? {
            return self.sync_rollout_status(&d, new, old).await;
        }
        let (new, old) = match new {
            Some(new) => (Some(new), old),
            None => self.split(&mut d, sets, true).await?,
        };
        let Some(mut new) = new else {
            return Err(Error::Other("the new replica set is missing".into()));
        };
        self.resize(&d, &mut new, plan::replicas(&d)).await?;
        if d.status.as_ref().is_some_and(|s| status::complete(&d, s)) {
            self.clean_history(&d, &old).await?;
        }
        self.sync_rollout_status(&d, Some(new), old).await
    }

    /// Scales without rolling anything out: the deployment is paused, or was just scaled.
    pub(super) async fn scale_only(
        &self,
        mut d: Deployment,
        sets: &[ReplicaSet],
    ) -> Result<Next, Error> {
        let (new, old) = self.split(&mut d, sets, false).await?;
        let has_new = new.is_some();
        let mut all: Vec<ReplicaSet> = old.into_iter().chain(new).collect();
        match plan::scaling(&d, &all, has_new) {
            Scaling::Nothing => {}
            Scaling::One(step) => {
                self.resize(&d, &mut all[step.set], step.to).await?;
            }
            Scaling::DropOld => {
                let count = all.len().saturating_sub(1);
                for set in &mut all[..count] {
                    self.resize(&d, set, 0).await?;
                }
            }
            Scaling::Proportional(steps) => {
                for step in steps {
                    self.resize_and_note(&d, &mut all[step.set], step.to)
                        .await?;
                }
            }
        }
        let new = if has_new { all.pop() } else { None };
        let paused = plan::spec(&d).paused == Some(true);
        if paused && annotations::rollback_to(&d).is_none() {
            self.clean_history(&d, &all).await?;
        }
        self.sync_status(&d, new, all).await
    }

    /// Gives a ReplicaSet a size, if it has another; tells whether it had.
    async fn resize(&self, d: &Deployment, set: &mut ReplicaSet, to: i32) -> Result<bool, Error> {
        if plan::size(set) == to {
            return Ok(false);
        }
        self.resize_and_note(d, set, to).await?;
        Ok(true)
    }

    /// Gives a ReplicaSet a size, and notes the deployment's.
    async fn resize_and_note(
        &self,
        d: &Deployment,
        set: &mut ReplicaSet,
        to: i32,
    ) -> Result<(), Error> {
        let from = plan::size(set);
        let mut wanted = set.clone();
        let noted = annotations::refresh_sizes(d, &mut wanted);
        if from == to && !noted {
            return Ok(());
        }
        wanted.spec.replicas = Some(to);
        *set = act::update(&self.client, &wanted)
            .await
            .during("scale a replica set")?;
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let name = set.name();
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.recorder.event(
                reference(d),
                EventType::Normal,
                "ScalingReplicaSet",
                &message,
            );
        }
        Ok(())
    }

    /// Deletes old ReplicaSets that history has no room for.
    async fn clean_history(&self, d: &Deployment, old: &[ReplicaSet]) -> Result<(), Error> {
        for i in plan::surplus(d, old) {
            let params = DeleteParams {
                preconditions: client::only_uid(old[i].uid()),
                ..DeleteParams::background()
            };
            act::delete::<ReplicaSet>(&self.client, d.namespace(), old[i].name(), &params)
                .await
                .during("delete an old replica set")?;
        }
        Ok(())
    }

    /// Writes the status without judging progress.
    pub(super) async fn sync_status(
        &self,
        d: &Deployment,
        new: Option<ReplicaSet>,
        old: Vec<ReplicaSet>,
    ) -> Result<Next, Error> {
        let s = status::calculate(d, new.as_ref(), &old, self.clock.seconds());
        self.write_if_changed(d, s).await?;
        Ok(Next::Done)
    }

    /// Writes the status and judges progress.
    async fn sync_rollout_status(
        &self,
        d: &Deployment,
        new: Option<ReplicaSet>,
        old: Vec<ReplicaSet>,
    ) -> Result<Next, Error> {
        let now = self.clock.seconds();
        let mut s = status::calculate(d, new.as_ref(), &old, now);
        status::judge(d, &mut s, new.as_ref(), &old, now);
        let next = status::recheck(d, &s, now);
        self.write_if_changed(d, s).await?;
        Ok(next.into())
    }

    async fn write_if_changed(
        &self,
        d: &Deployment,
        s: api::apps::v1::DeploymentStatus,
    ) -> Result<(), Error> {
        if plan::same_status(d.status.as_ref(), &s) {
            return Ok(());
        }
        let mut d = d.clone();
        d.status = Some(s);
        self.write_status(&d).await?;
        Ok(())
    }
}
