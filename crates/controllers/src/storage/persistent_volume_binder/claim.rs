//! Claims: bound, unbound, lost.

use std::sync::Arc;

use api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use client::EventType;
use reconciler::{During, Error};

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, Binder, PROVISIONER, PROVISIONER_BETA, SELECTED_NODE,
    annotate, matching,
};
use crate::common::act;
use crate::common::object::Object;
use crate::storage::pvc_protection;

impl Binder {
    pub(super) async fn sync_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        if claim.annotations().contains_key(BIND_COMPLETED) {
            return self.sync_bound(claim).await;
        }
        let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        match named.filter(|n| !n.is_empty()) {
            Some(name) => self.sync_named(claim, name).await,
            None => self.sync_unbound(claim).await,
        }
    }

    /// The claim leaves the choice to us.
    async fn sync_unbound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let class_name = matching::claim_class(claim);
        let class = match class_name.as_deref() {
            None | Some("") => None,
            Some(name) => self.class(name)?,
        };
        let waits = class
            .as_ref()
            .is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let delayed = waits && !claim.annotations().contains_key(SELECTED_NODE);
        let volumes = self.client.lister::<PersistentVolume>()?.list(None);
        if let Some(volume) = matching::find(&volumes, claim, delayed) {
            return self.bind(claim, &volume).await;
        }
        if class_name.is_none()
            && let Some(default) = self.default_class()?
        {
            let mut new = claim.clone();
            new.spec.get_or_insert_default().storage_class_name = Some(default.name().into());
            let done = act::update(&self.client, &new).await;
            return done.map(|_| ()).during("set the claim's default class");
        }
        if delayed {
            self.tell_waiting(claim)?;
        } else if let Some(name) = class_name.filter(|n| !n.is_empty()) {
            self.provision(claim, &name, class.as_deref()).await?;
        } else {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            self.tell_claim(claim, EventType::Normal, "FailedBinding", message);
        }
        // Provisioning may have written the claim: the phase is set on what is there now.
        self.set_claim_phase(claim, "Pending", None).await
    }

    fn tell_waiting(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let pods = self.client.lister::<api::core::v1::Pod>()?;
        let all = pods.list(Some(claim.namespace()));
        let using = all
            .iter()
            .filter(|p| pvc_protection::claims(p).iter().any(|c| c == claim.name()));
        let names: Vec<&str> = using.map(|p| p.name()).collect();
        let (reason, message) = match names.as_slice() {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_string(),
            ),
            [one] => (
                "WaitForPodScheduled",
                format!("waiting for pod {one} to be scheduled"),
            ),
            many => (
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", many.join(",")),
            ),
        };
        self.tell_claim(claim, EventType::Normal, reason, &message);
        Ok(())
    }

    /// Leaves the volume to an external provisioner.
    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        name: &str,
        class: Option<&api::storage::v1::StorageClass>,
    ) -> Result<(), Error> {
        let Some(class) = class else {
            let message = format!("storageclass.storage.k8s.io {name:?} not found");
            self.tell_claim(claim, EventType::Warning, "ProvisioningFailed", &message);
            return Ok(());
        };
        let provisioner = class.provisioner.as_str();
        if provisioner.starts_with("kubernetes.io/") {
            let message = format!("no volume plugin matched name: {provisioner}");
            self.tell_claim(claim, EventType::Warning, "ProvisioningFailed", &message);
            return Ok(());
        }
        let mut new = claim.clone();
        let a = annotate(&mut new.metadata.annotations, PROVISIONER, provisioner);
        let b = annotate(&mut new.metadata.annotations, PROVISIONER_BETA, provisioner);
        if a || b {
            let done = act::update(&self.client, &new).await;
            done.during("annotate the claim")?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.tell_claim(claim, EventType::Normal, "ExternalProvisioning", &message);
        Ok(())
    }

    /// The claim names its volume.
    async fn sync_named(&self, claim: &PersistentVolumeClaim, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volume(name)? else {
            return self.set_claim_phase(claim, "Pending", None).await;
        };
        let free = volume.spec.as_ref().is_none_or(|s| s.claim_ref.is_none());
        if free {
            if let Some(why) = matching::problem(&volume, claim) {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                self.tell_claim(claim, EventType::Warning, "VolumeMismatch", &message);
                return self.set_claim_phase(claim, "Pending", None).await;
            }
            return self.bind(claim, &volume).await;
        }
        if matching::is_for(&volume, claim) {
            return self.bind(claim, &volume).await;
        }
        let message = format!("volume {name:?} already bound to a different claim.");
        self.tell_claim(claim, EventType::Warning, "FailedBinding", &message);
        self.set_claim_phase(claim, "Pending", None).await
    }

    async fn sync_bound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        let lost = |message: &'static str| (Some(("ClaimLost", message)), None);
        let (problem, volume): (_, Option<Arc<PersistentVolume>>) = match named
            .filter(|n| !n.is_empty())
        {
            None => lost(
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            ),
            Some(name) => match self.volume(name)? {
                None => {
                    lost("Bound claim has lost its PersistentVolume. Data on the volume is lost!")
                }
                Some(v) => {
                    let free = v.spec.as_ref().is_none_or(|s| s.claim_ref.is_none());
                    if free || matching::is_for(&v, claim) {
                        (None, Some(v))
                    } else {
                        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                        (Some(("ClaimMisbound", message)), None)
                    }
                }
            },
        };
        if let Some((reason, message)) = problem {
            let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase != Some("Lost") {
                self.tell_claim(claim, EventType::Warning, reason, message);
            }
            return self.set_claim_phase(claim, "Lost", None).await;
        }
        match volume {
            Some(volume) => self.bind(claim, &volume).await,
            None => Ok(()),
        }
    }

    /// Four writes, each only where it is missing.
    async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), Error> {
        let mut new = volume.clone();
        let before = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
        let uid = before.as_ref().and_then(|r| r.uid.as_deref()).unwrap_or("");
        if uid != claim.uid() {
            if before.is_none() {
                annotate(&mut new.metadata.annotations, BOUND_BY_CONTROLLER, "yes");
            }
            new.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            });
            new = self.write_volume(&new).await?;
        }
        let volume = self.set_phase(&new, "Bound", "").await?;
        let mut bound = claim.clone();
        let named = bound.spec.as_ref().and_then(|s| s.volume_name.clone());
        let mut changed = false;
        if named.as_deref() != Some(volume.name()) {
            bound.spec.get_or_insert_default().volume_name = Some(volume.name().into());
            annotate(&mut bound.metadata.annotations, BOUND_BY_CONTROLLER, "yes");
            changed = true;
        }
        changed |= annotate(&mut bound.metadata.annotations, BIND_COMPLETED, "yes");
        if changed {
            let done = act::update(&self.client, &bound).await;
            bound = done.during("bind the claim")?;
        }
        self.set_claim_phase(&bound, "Bound", Some(&volume)).await
    }

    /// Sets a claim's phase, and what it has of its volume.
    async fn set_claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<(), Error> {
        let claims = self.client.lister::<PersistentVolumeClaim>()?;
        let newest = claims.get(claim.namespace(), claim.name());
        let Some(newest) = newest.filter(|c| c.uid() == claim.uid()) else {
            return Ok(());
        };
        let before = newest.status.clone().unwrap_or_default();
        let mut status = before.clone();
        status.phase = Some(phase.into());
        match volume.and_then(|v| v.spec.as_ref()) {
            Some(spec) => {
                status.access_modes = spec.access_modes.clone();
                if before.phase.as_deref() != Some("Bound") {
                    status.capacity = spec.capacity.clone();
                    status.current_volume_attributes_class_name =
                        spec.volume_attributes_class_name.clone();
                }
            }
            None => {
                status.access_modes = None;
                status.capacity = None;
                status.current_volume_attributes_class_name = None;
            }
        }
        if status == before {
            return Ok(());
        }
        let new = PersistentVolumeClaim {
            status: Some(status),
            ..(*newest).clone()
        };
        let done = act::update_status(&self.client, &new).await;
        done.map(|_| ()).during("update the claim's phase")
    }
}
