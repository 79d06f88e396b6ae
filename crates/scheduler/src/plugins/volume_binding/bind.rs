//! PreBind: tells volumes and claims of the decision and waits until the claims are bound.

use std::sync::Arc;

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use async_trait::async_trait;
use client::api::{Patch, PatchParams};
use machinery::GroupResource;
use serde_json::{Value, json};

use super::{BIND_COMPLETED, Plan, SELECTED_NODE, annotation};
use crate::framework::{PreBind, Rejection};
use crate::limits;
use crate::pod::Pod;
use crate::world::World;

const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Binds the claims of one pod.
pub struct BindVolumes {
    pub world: Arc<World>,
    pub pod: Arc<Pod>,
    pub plan: Plan,
}

#[async_trait]
impl PreBind for BindVolumes {
    async fn run(self: Box<Self>) -> Result<(), Rejection> {
        let done = async {
            self.write().await?;
            self.wait().await
        };
        let why = match tokio::time::timeout(limits::VOLUMES_BOUND, done).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "context deadline exceeded".into(),
        };
        Err(Rejection::error(format!("binding volumes: {why}")))
    }
}

impl BindVolumes {
    /// Writes the claim into each volume found, and the node onto each claim to make a volume for.
    async fn write(&self) -> Result<(), String> {
        let namespace = &*self.pod.key.namespace;
        for (claim, volume) in &self.plan.bindings {
            let patch = self.claim_ref(claim, volume)?;
            let volumes = self.world.client.all::<PersistentVolume>();
            let params = PatchParams::default();
            let written = volumes.patch(volume, &params, &Patch::Merge(&patch)).await;
            let written = written.map_err(|e| e.to_string())?;
            self.seen("persistentvolumes", written.metadata.resource_version)
                .await;
        }
        for claim in &self.plan.provision {
            let patch = json!({"metadata": {"annotations": {SELECTED_NODE: self.plan.node}}});
            let claims = self
                .world
                .client
                .namespaced::<PersistentVolumeClaim>(namespace);
            let params = PatchParams::default();
            let written = claims.patch(claim, &params, &Patch::Merge(&patch)).await;
            let written = written.map_err(|e| e.to_string())?;
            self.seen("persistentvolumeclaims", written.metadata.resource_version)
                .await;
        }
        Ok(())
    }

    fn claim_ref(&self, claim: &str, volume: &str) -> Result<Value, String> {
        let namespace = &*self.pod.key.namespace;
        let not_found = |kind: &str, name: &str| format!("{kind} {name:?} not found");
        let object = self.world.claims.get(namespace, claim);
        let object = object.ok_or_else(|| not_found("persistentvolumeclaim", claim))?;
        let known = self.world.volumes.get("", volume);
        let known = known.ok_or_else(|| not_found("persistentvolume", volume))?;
        Ok(json!({
            "metadata": {
                "resourceVersion": known.metadata.resource_version,
                "annotations": {BOUND_BY_CONTROLLER: "yes"},
            },
            "spec": {"claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": claim,
                "uid": object.metadata.uid,
                "resourceVersion": object.metadata.resource_version,
            }},
        }))
    }

    /// Waits until the shared cache has what was written.
    async fn seen(&self, resource: &'static str, version: Option<String>) {
        let cache = self.world.client.cache(&GroupResource::new("", resource));
        if let (Ok(cache), Some(Ok(revision))) = (cache, version.map(|v| v.parse())) {
            cache.wait_for(revision).await;
        }
    }

    /// Waits until all claims are bound.
    async fn wait(&self) -> Result<(), String> {
        let resource = GroupResource::new("", "persistentvolumeclaims");
        loop {
            let cache = self
                .world
                .client
                .cache(&resource)
                .map_err(|e| e.to_string())?;
            let mut changes = cache.subscribe().changes;
            loop {
                if self.all_bound()? {
                    return Ok(());
                }
                if changes.recv().await.is_none() {
                    // Cut off: subscribe again and look at the whole.
                    break;
                }
            }
            tokio::time::sleep(limits::RESUBSCRIBE).await;
        }
    }

    fn all_bound(&self) -> Result<bool, String> {
        let namespace = &*self.pod.key.namespace;
        let claim = |name: &str| {
            let found = self.world.claims.get(namespace, name);
            found.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))
        };
        let mut all = true;
        for (name, volume) in &self.plan.bindings {
            let object = self.world.volumes.get("", volume);
            let reference = object.and_then(|v| v.spec.as_ref()?.claim_ref.clone());
            if reference.is_none_or(|r| r.name.as_deref() != Some(name)) {
                return Err(format!("ClaimRef got reset for pv {volume:?}"));
            }
            all &= is_bound(&*claim(name)?);
        }
        for name in &self.plan.provision {
            let claim = claim(name)?;
            if annotation(&claim, SELECTED_NODE) != Some(&self.plan.node) && !is_bound(&claim) {
                return Err(format!("provisioning failed for PVC {name:?}"));
            }
            all &= is_bound(&claim);
        }
        Ok(all)
    }
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    volume.is_some_and(|v| !v.is_empty()) && annotation(claim, BIND_COMPLETED).is_some()
}
