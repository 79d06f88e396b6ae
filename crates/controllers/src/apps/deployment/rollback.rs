//! Rolling back by annotation, as extensions/v1beta1 asked for it.
//! Upstream: pkg/controller/deployment/rollback.go. (`kubectl rollout undo` writes the template itself.)

use api::apps::v1::{Deployment, ReplicaSet};
use client::EventType;
use client::recorder::reference;
use reconciler::{During, Error, Next};

use super::plan::HASH_LABEL;
use super::{Deployments, annotations, plan};
use crate::common::act;
use crate::common::object::Object;

impl Deployments {
    pub(super) async fn rollback(
        &self,
        mut d: Deployment,
        sets: &[ReplicaSet],
        to: i64,
    ) -> Result<Next, Error> {
        let (new, old) = self.split(&mut d, sets, true).await?;
        let tell = |d: &Deployment, kind, reason: &str, message: &str| {
            self.recorder.event(reference(d), kind, reason, message);
        };
        let all: Vec<&ReplicaSet> = old.iter().chain(&new).collect();
        let wanted = if to == 0 { previous(&all) } else { Some(to) };
        let target = wanted.and_then(|r| {
            let mut found = all.iter().filter(|s| annotations::revision(**s) == Some(r));
            found.next()
        });
        match target {
            None => {
                let message = if wanted.is_none() {
                    "Unable to find last revision."
                } else {
                    "Unable to find the revision to rollback to."
                };
                let reason = "DeploymentRollbackRevisionNotFound";
                tell(&d, EventType::Warning, reason, message);
            }
            Some(set) => {
                let mut template = plan::template_of(set);
                if plan::same_template(&template, &plan::spec(&d).template) {
                    let name = d.name();
                    let message = format!(
                        "The rollback revision contains the same template as current deployment {name:?}"
                    );
                    let reason = "DeploymentRollbackTemplateUnchanged";
                    tell(&d, EventType::Warning, reason, &message);
                } else {
                    let meta = template.metadata.get_or_insert_default();
                    meta.labels.get_or_insert_default().remove(HASH_LABEL);
                    d.spec.template = template;
                    annotations::restore(&mut d, set);
                    let message = format!(
                        "Rolled back deployment {:?} to revision {}",
                        d.name(),
                        wanted.unwrap_or(0)
                    );
                    tell(&d, EventType::Normal, "DeploymentRollback", &message);
                }
            }
        }
        if let Some(map) = &mut d.metadata.annotations {
            map.remove(annotations::ROLLBACK_TO);
        }
        act::update(&self.client, &d)
            .await
            .during("end the rollback")?;
        Ok(Next::Done)
    }
}

/// The second highest revision.
fn previous(all: &[&ReplicaSet]) -> Option<i64> {
    let mut revisions: Vec<i64> = all
        .iter()
        .filter_map(|s| annotations::revision(*s))
        .collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    revisions.dedup();
    revisions.get(1).copied()
}
