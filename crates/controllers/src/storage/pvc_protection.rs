//! Claims in use by pods are not removed, and claims tell since when nobody uses them.
//! Upstream: pkg/controller/volume/pvcprotection.

use std::sync::Arc;

use api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition, Pod};
use async_trait::async_trait;
use client::Client;
use client::api::ListParams;
use reconciler::{Clock, During, Error, Event, Key, Next, Reconcile, Reconciler, Trigger, Wake};

use crate::common::object::{Object, time};
use crate::common::{act, pods};
use crate::{Controller, Setup};

pub static CONTROLLER: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    account: "pvc-protection-controller",
    component: "pvc-protection-controller",
    needs: &[("", "persistentvolumeclaims"), ("", "pods")],
    build: |setup| Ok(build(setup)),
};

const FINALIZER: &str = "kubernetes.io/pvc-protection";

fn build(setup: &Setup) -> Reconciler {
    let this = Protection {
        client: setup.client.clone(),
        clock: setup.clock.clone(),
    };
    Reconciler::new("persistentvolumeclaim-protection-controller", 1, this)
        .on(Trigger::own("", "persistentvolumeclaims"))
        .on(Trigger::map("", "pods", claims_of_event))
}

/// The names of the claims that a pod uses, generic ephemeral volumes included.
pub fn claims(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let named = volumes.filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), v.name)),
        (None, None) => None,
    });
    named.collect()
}

fn claims_of_event(e: &Event<'_>) -> Vec<Wake> {
    let Some(pod) = e.typed::<Pod>() else {
        return Vec::new();
    };
    let all = claims(&pod);
    if all.is_empty() {
        return Vec::new();
    }
    if let Some(before) = e.typed_before::<Pod>().filter(|_| !e.deleted()) {
        let shape = |p: &Pod| (pods::node(p).to_string(), pods::terminal(p), p.deleting());
        if shape(&before) == shape(&pod) {
            return Vec::new();
        }
    }
    let key = |name: &String| Key::new(&e.entry.namespace, name).into();
    all.iter().map(key).collect()
}

struct Protection {
    client: Client,
    clock: Clock,
}

/// Whether a pod holds a claim: once on a node, until it is gone.
fn holds(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pods::node(pod).is_empty() || !claims(pod).iter().any(|c| c == claim.name()) {
        return false;
    }
    // The claim of an ephemeral volume waits only for a pod that has time left.
    let own = claim.controlled_by(pod.uid());
    let over = pod.deleting() && pod.metadata.deletion_grace_period_seconds == Some(0);
    !(own && over)
}

/// Whether a pod uses a claim, as its condition tells.
fn uses(pod: &Pod, claim: &str) -> bool {
    !pods::terminal(pod) && claims(pod).iter().any(|c| c == claim)
}

#[async_trait]
impl Reconcile for Protection {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let lister = self.client.lister::<PersistentVolumeClaim>()?;
        let Some(claim) = lister.get(&key.namespace, &key.name) else {
            return Ok(Next::Done);
        };
        let pods = self.client.lister::<Pod>()?.list(Some(&key.namespace));
        let protected = claim.has_finalizer(FINALIZER);
        match (claim.deleting(), protected) {
            (true, true) => self.release(&claim, &pods).await?,
            (true, false) => {}
            (false, false) => {
                let mut new = (*claim).clone();
                let finalizers = new.metadata.finalizers.get_or_insert_default();
                finalizers.push(FINALIZER.into());
                self.write(&new).await?;
            }
            (false, true) => self.tell_use(&claim, &pods).await?,
        }
        Ok(Next::Done)
    }
}

impl Protection {
    async fn write(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        match act::update(&self.client, claim).await {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.map(|_| ()).during("change the claim's finalizers"),
        }
    }

    async fn release(&self, claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Result<(), Error> {
        if pods.iter().any(|p| holds(p, claim)) {
            return Ok(());
        }
        // What is lost with a claim does not come back: ask the server, too.
        let api = self.client.namespaced::<Pod>(claim.namespace());
        let live = api.list(&ListParams::default()).await.during("list pods")?;
        if live.items.iter().any(|p| holds(p, claim)) {
            return Ok(());
        }
        let mut new = claim.clone();
        if let Some(finalizers) = &mut new.metadata.finalizers {
            finalizers.retain(|f| f != FINALIZER);
        }
        self.write(&new).await
    }

    /// Condition `Unused`, set when it changes.
    async fn tell_use(
        &self,
        claim: &PersistentVolumeClaim,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        const KIND: &str = "Unused";
        let used = pods.iter().any(|p| uses(p, claim.name()));
        let (state, reason, message) = if used {
            (
                "False",
                "PodUsingPVC",
                "A pod is currently referencing this PVC",
            )
        } else {
            (
                "True",
                "NoPodsUsingPVC",
                "No pods are currently referencing this PVC",
            )
        };
        let status = claim.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.clone().unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c.type_ == KIND && c.status == state)
        {
            return Ok(());
        }
        conditions.retain(|c| c.type_ != KIND);
        conditions.push(PersistentVolumeClaimCondition {
            type_: KIND.into(),
            status: state.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: None,
            last_transition_time: time(self.clock.seconds()),
        });
        let mut new = claim.clone();
        new.status.get_or_insert_default().conditions = Some(conditions);
        match act::update_status(&self.client, &new).await {
            Err(e) if client::is_not_found(&e) => Ok(()),
            done => done.map(|_| ()).during("tell the use of the claim"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn scheduled_pods_hold_claims_until_they_are_gone() {
        let pod = |more: Value| -> Pod {
            let mut v = json!({"metadata": {"name": "p", "uid": "p"}, "spec": {"nodeName": "n", "containers": [],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}]}});
            json_patch::merge(&mut v, &more);
            serde_json::from_value(v).unwrap()
        };
        let claim = |v: Value| -> PersistentVolumeClaim { serde_json::from_value(v).unwrap() };
        let c = claim(json!({"metadata": {"name": "c"}}));
        assert!(holds(&pod(json!({})), &c));
        assert!(holds(&pod(json!({"status": {"phase": "Succeeded"}})), &c));
        assert!(!holds(&pod(json!({"spec": {"nodeName": null}})), &c));
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true}]);
        let e = claim(json!({"metadata": {"name": "p-e", "ownerReferences": owner}}));
        assert!(holds(&pod(json!({})), &e));
        let over = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
        assert!(!holds(&pod(over), &e));
        assert!(!uses(&pod(json!({"status": {"phase": "Failed"}})), "c"));
    }
}
