//! The claims of a StatefulSet's pods, and who owns them.
//! Upstream: pkg/controller/statefulset/{stateful_pod_control,stateful_set_utils}.go.

use std::sync::Arc;

use api::apps::v1::StatefulSet;
use api::core::v1::{PersistentVolumeClaim, Pod};
use api::meta::OwnerReference;
use client::EventType;
use client::recorder::reference;
use reconciler::{During, Error};

use super::{StatefulSets, identity, plan};
use crate::common::act;
use crate::common::object::{self, Object};

/// Whose a claim is under the set's retention policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Set,
    Pod,
}

fn holder(set: &StatefulSet, condemned: bool) -> Holder {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |p: Option<&String>| p.is_some_and(|p| p == "Delete");
    let scaled = deletes(policy.and_then(|p| p.when_scaled.as_ref()));
    let deleted = deletes(policy.and_then(|p| p.when_deleted.as_ref()));
    match (condemned && scaled, deleted) {
        (true, _) => Holder::Pod,
        (false, true) => Holder::Set,
        (false, false) => Holder::Nobody,
    }
}

/// The owners a claim should have; `None` where it has them. Another controller's claim is left alone.
fn owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
    holder: Holder,
) -> Option<Vec<OwnerReference>> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let ours = |o: &OwnerReference| o.uid == set.uid() || o.uid == pod.uid();
    let mut after: Vec<OwnerReference> = before.iter().filter(|o| !ours(o)).cloned().collect();
    let foreign = after.iter().any(|o| o.controller == Some(true));
    if !foreign {
        match holder {
            Holder::Nobody => {}
            Holder::Set => after.push(object::controller_ref(set)),
            Holder::Pod => after.push(object::controller_ref(pod)),
        }
    }
    (after != before).then_some(after)
}

impl StatefulSets {
    /// Makes the claims of a pod that is about to be made.
    pub(super) async fn make_claims(
        &self,
        set: &StatefulSet,
        pod: &Pod,
        ordinal: i32,
    ) -> Result<(), Error> {
        let Some(templates) = set.spec.volume_claim_templates.as_ref() else {
            return Ok(());
        };
        let lister = self.client.lister::<PersistentVolumeClaim>()?;
        for template in templates {
            let name = identity::claim_name(set, template.name(), ordinal);
            if let Some(known) = lister.get(set.namespace(), &name) {
                if known.deleting() {
                    return Err(Error::Other(format!("pvc {name} is being deleted")));
                }
                continue;
            }
            let mut claim = template.clone();
            claim.metadata.name = Some(name.clone());
            claim.metadata.namespace = set.metadata.namespace.clone();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            claim.status = None;
            if holder(set, false) == Holder::Set {
                claim.metadata.owner_references = Some(vec![object::controller_ref(set)]);
            }
            let done = act::create(&self.client, &claim).await;
            let (kind, reason, message) = match &done {
                Ok(_) => (
                    EventType::Normal,
                    "SuccessfulCreate",
                    format!(
                        "create Claim {name} Pod {} in StatefulSet {} success",
                        pod.name(),
                        set.name()
                    ),
                ),
                Err(e) => (
                    EventType::Warning,
                    "FailedCreate",
                    format!(
                        "create Claim {name} for Pod {} in StatefulSet {} failed error: {}",
                        pod.name(),
                        set.name(),
                        client::message(e)
                    ),
                ),
            };
            self.recorder.event(reference(set), kind, reason, &message);
            done.during("create a claim")?;
        }
        Ok(())
    }

    /// Brings the owners of all pods' claims in line with the retention policy.
    pub(super) async fn keep_claims(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        let Some(templates) = set.spec.volume_claim_templates.as_ref() else {
            return Ok(());
        };
        let lister = self.client.lister::<PersistentVolumeClaim>()?;
        for pod in pods {
            let Some(ordinal) = identity::ordinal(set.name(), pod.name()) else {
                continue;
            };
            let holder = holder(set, !plan::range(set).contains(&ordinal));
            for template in templates {
                let name = identity::claim_name(set, template.name(), ordinal);
                let known = lister.get(set.namespace(), &name);
                let Some(known) = known.filter(|c| !c.deleting()) else {
                    continue;
                };
                let Some(owners) = owners(&known, set, pod, holder) else {
                    continue;
                };
                let mut claim = (*known).clone();
                claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
                act::update(&self.client, &claim)
                    .await
                    .during("change a claim's owners")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "s", "uid": "s"}, "spec": {"selector": {}, "template": {},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}}))
        .unwrap()
    }

    #[test]
    fn the_policy_decides_who_holds_a_claim() {
        let table = [
            ("Retain", "Retain", false, Holder::Nobody),
            ("Delete", "Retain", true, Holder::Set),
            ("Retain", "Delete", false, Holder::Nobody),
            ("Retain", "Delete", true, Holder::Pod),
            ("Delete", "Delete", false, Holder::Set),
            ("Delete", "Delete", true, Holder::Pod),
        ];
        for (deleted, scaled, condemned, wanted) in table {
            assert_eq!(holder(&set(deleted, scaled), condemned), wanted);
        }
    }

    #[test]
    fn claims_of_other_controllers_are_left_to_them() {
        let claim = |owners: Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"name": "c", "ownerReferences": owners}}))
                .unwrap()
        };
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "s-0", "uid": "p"}})).unwrap();
        let s = set("Delete", "Delete");
        let foreign =
            json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]);
        assert_eq!(owners(&claim(foreign), &s, &pod, Holder::Set), None);
        let mine = owners(&claim(json!([])), &s, &pod, Holder::Set).unwrap();
        assert_eq!(mine[0].uid, "s");
    }
}
