//! persistentVolumeClaim: what the claim is bound to; hostPath and local volumes.
//! Upstream: pkg/kubelet/volumemanager/populator, pkg/volume/{hostpath,local}.

use api::core::v1::{
    NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
};

use super::{Context, Kind, Mounted, host_path, ownership, unsupported};
use crate::pod;

pub static KIND: Kind = Kind {
    plugin: "",
    is: |v| v.persistent_volume_claim.is_some(),
    setup: |cx| {
        Box::pin(async move {
            let source = cx.volume.persistent_volume_claim.as_ref();
            let source = source.ok_or("the volume has no persistentVolumeClaim")?;
            bound(cx, &source.claim_name, source.read_only == Some(true), None)
        })
    },
};

/// The volume behind a claim. `owner` is the uid of the pod that must own the claim.
pub fn bound(
    cx: &Context<'_>,
    claim_name: &str,
    read_only: bool,
    owner: Option<&str>,
) -> Result<Mounted, String> {
    let ns = cx.namespace();
    let wrap = |why: String| format!("error processing PVC {ns}/{claim_name}: {why}");
    let claim = cx.kubelet.claim(ns, claim_name).ok_or_else(|| {
        wrap(format!(
            "failed to fetch PVC from API server: persistentvolumeclaims {claim_name:?} not found"
        ))
    })?;
    if let Some(owner) = owner {
        let owners = claim.metadata.owner_references.iter().flatten();
        if !owners.into_iter().any(|o| o.uid == owner) {
            return Err(format!(
                "PVC {ns}/{claim_name} was not created for pod {ns}/{} (pod is not owner)",
                pod::name(cx.pod)
            ));
        }
    }
    let volume = volume_of(cx, &claim).map_err(wrap)?;
    let spec = volume
        .spec
        .as_ref()
        .ok_or_else(|| wrap("PV has no spec".into()))?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("volumes of mode Block are not supported by this kubelet".into());
    }
    check_affinity(cx, spec)?;
    let mut mounted = source(spec)?;
    mounted.read_only = read_only;
    if let Some(group) = cx.fs_group().filter(|_| spec.local.is_some()) {
        let security = pod::spec(cx.pod).security_context.as_ref();
        let policy = security.and_then(|s| s.fs_group_change_policy.as_deref());
        ownership::apply(&mounted.path, group, read_only, policy)?;
    }
    Ok(mounted)
}

fn volume_of(
    cx: &Context<'_>,
    claim: &PersistentVolumeClaim,
) -> Result<std::sync::Arc<PersistentVolume>, String> {
    let protected = claim
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == "kubernetes.io/pvc-protection");
    if claim.metadata.deletion_timestamp.is_some() && !protected {
        return Err("PVC is being deleted".into());
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase != Some("Bound") {
        return Err("PVC is not bound".into());
    }
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    let name = name
        .filter(|n| !n.is_empty())
        .ok_or("PVC has empty pvc.Spec.VolumeName")?;
    let volume = cx.kubelet.persistent_volume(name).ok_or_else(|| {
        format!("failed to fetch PV {name} from API server: persistentvolumes {name:?} not found")
    })?;
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let reference = reference.ok_or_else(|| {
        format!("found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim")
    })?;
    if reference.uid != claim.metadata.uid {
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {} does not point to claim.UID {}",
            reference.uid.as_deref().unwrap_or_default(),
            claim.metadata.uid.as_deref().unwrap_or_default()
        ));
    }
    Ok(volume)
}

fn source(spec: &PersistentVolumeSpec) -> Result<Mounted, String> {
    if let Some(h) = &spec.host_path {
        return host_path::mount(&h.path, h.type_.as_deref().unwrap_or_default());
    }
    if let Some(l) = &spec.local {
        let path = std::path::PathBuf::from(&l.path);
        if !path.exists() {
            return Err(format!("path {:?} does not exist", l.path));
        }
        if !path.is_dir() {
            return Err(format!(
                "path {:?} is no directory: local volumes on block devices are not supported by this kubelet",
                l.path
            ));
        }
        return Ok(Mounted {
            path,
            ..Mounted::default()
        });
    }
    let kind = unsupported::kind_of(&serde_json::to_value(spec).unwrap_or_default());
    Err(unsupported::text(&kind))
}

fn check_affinity(cx: &Context<'_>, spec: &PersistentVolumeSpec) -> Result<(), String> {
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref());
    let Some(required) = required else {
        return Ok(());
    };
    let node = cx.kubelet.node();
    let terms: &[NodeSelectorTerm] = &required.node_selector_terms;
    let matches = node
        .as_deref()
        .is_some_and(|n| crate::admission::matches_terms(n, terms));
    if matches {
        Ok(())
    } else {
        Err(
            "MountVolume.NodeAffinity check failed for volume: no matching NodeSelectorTerms"
                .into(),
        )
    }
}
