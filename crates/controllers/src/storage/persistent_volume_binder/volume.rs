//! Volumes: free, bound, released.

use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use client::EventType;
use reconciler::{During, Error};

use super::{BOUND_BY_CONTROLLER, Binder, PROVISIONED_BY, matching};
use crate::common::object::Object;

impl Binder {
    pub(super) async fn sync_volume(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let claim_ref = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
        let uid = claim_ref
            .as_ref()
            .and_then(|r| r.uid.clone())
            .unwrap_or_default();
        let Some(claim_ref) = claim_ref.filter(|_| !uid.is_empty()) else {
            // Free, or meant for a claim that has not come yet.
            self.set_phase(volume, "Available", "").await?;
            return Ok(());
        };
        let namespace = claim_ref.namespace.unwrap_or_default();
        let name = claim_ref.name.unwrap_or_default();
        let claims = self.client.lister::<PersistentVolumeClaim>()?;
        let mut claim = claims.get(&namespace, &name).map(|c| (*c).clone());
        if claim.as_ref().is_none_or(|c| c.uid() != uid) {
            let api = self.client.namespaced::<PersistentVolumeClaim>(&namespace);
            claim = api.get_opt(&name).await.during("get the volume's claim")?;
        }
        let Some(claim) = claim.filter(|c| c.uid() == uid) else {
            let released = self.set_phase_unless_failed(volume).await?;
            return self.reclaim(&released).await;
        };
        let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
        match named.filter(|n| !n.is_empty()) {
            None => {
                if !matching::same_mode(volume, &claim) {
                    self.tell_mode_mismatch(volume, &claim);
                }
                // The claim was woken together with this volume and does the rest.
                Ok(())
            }
            Some(n) if n == volume.name() => {
                self.set_phase(volume, "Bound", "").await?;
                Ok(())
            }
            Some(_) => self.unbind_or_reclaim(volume).await,
        }
    }

    /// A volume that could not be reclaimed stays failed.
    async fn set_phase_unless_failed(
        &self,
        volume: &PersistentVolume,
    ) -> Result<PersistentVolume, Error> {
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase == Some("Failed") {
            return Ok(volume.clone());
        }
        self.set_phase(volume, "Released", "").await
    }

    fn tell_mode_mismatch(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) {
        let (v, c) = (volume.name(), claim.name());
        let message = format!(
            "Cannot bind PersistentVolume to requested PersistentVolumeClaim {c:?} due to incompatible volumeMode."
        );
        self.tell_volume(volume, EventType::Warning, "VolumeMismatch", &message);
        let message = format!(
            "Cannot bind PersistentVolume {v:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
        );
        self.tell_claim(claim, EventType::Warning, "VolumeMismatch", &message);
    }

    /// The volume's claim took another volume.
    async fn unbind_or_reclaim(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let spec = volume.spec.as_ref();
        let policy = spec.and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
        if volume.annotations().contains_key(PROVISIONED_BY) && policy == Some("Delete") {
            let released = self.set_phase_unless_failed(volume).await?;
            return self.reclaim(&released).await;
        }
        let mut new = volume.clone();
        let ours = volume.annotations().contains_key(BOUND_BY_CONTROLLER);
        if let Some(spec) = &mut new.spec {
            if ours {
                spec.claim_ref = None;
            } else if let Some(r) = &mut spec.claim_ref {
                r.uid = None;
            }
        }
        if ours && let Some(map) = &mut new.metadata.annotations {
            map.remove(BOUND_BY_CONTROLLER);
        }
        let new = self.write_volume(&new).await?;
        self.set_phase(&new, "Available", "").await?;
        Ok(())
    }

    /// What becomes of a volume whose claim is gone.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let Some(spec) = &volume.spec else {
            return Ok(());
        };
        let (reason, message) = match spec.persistent_volume_reclaim_policy.as_deref() {
            None | Some("Retain") => return Ok(()),
            // The driver that made it deletes it.
            Some("Delete")
                if spec.csi.is_some() || volume.annotations().contains_key(PROVISIONED_BY) =>
            {
                return Ok(());
            }
            Some("Delete") => (
                "VolumeFailedDelete",
                format!(
                    "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                    volume.name()
                ),
            ),
            Some("Recycle") => (
                "VolumeFailedRecycle",
                "No recycler plugin found for the volume!".to_string(),
            ),
            Some(_) => (
                "VolumeUnknownReclaimPolicy",
                "Volume has unrecognized PersistentVolumeReclaimPolicy".to_string(),
            ),
        };
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase != Some("Failed") {
            self.tell_volume(volume, EventType::Warning, reason, &message);
        }
        self.set_phase(volume, "Failed", &message).await?;
        Ok(())
    }
}
