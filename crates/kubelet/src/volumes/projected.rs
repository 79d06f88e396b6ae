//! projected: secrets, ConfigMaps, pod fields, service account tokens, trust bundles and pod certificates in
//! one directory.
//! Upstream: pkg/volume/projected.

use api::core::v1::{
    Pod, PodCertificateProjection, ServiceAccountTokenProjection, VolumeProjection,
};

use super::{Context, Kind, Mounted, config_map, downward_api, secret, secret_dir};
use crate::atomic_writer::{self, File, Payload};
use crate::pod;
use crate::pod_certificates::Source;
use crate::security;
use crate::trust_bundles;

pub static KIND: Kind = Kind {
    plugin: "kubernetes.io~projected",
    is: |v| v.projected.is_some(),
    setup: |cx| Box::pin(setup(cx)),
};

async fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let Some(source) = cx.volume.projected.as_ref() else {
        return Err("the volume has no projected sources".into());
    };
    let mode = source.default_mode.unwrap_or(0o644);
    let (mut payload, mut errors) = (Payload::new(), Vec::new());
    for (index, one) in source.sources.iter().flatten().enumerate() {
        match files(cx, one, index, mode).await {
            Ok(files) => payload.extend(files),
            Err(e) => errors.push(e),
        }
    }
    match errors.as_slice() {
        [] => {}
        [one] => return Err(one.clone()),
        many => return Err(format!("[{}]", many.join(", "))),
    }
    let path = cx.dir(KIND.plugin);
    secret_dir(&path)?;
    atomic_writer::write(&path, &payload, cx.fs_group()).map_err(|e| e.to_string())?;
    Ok(Mounted {
        path,
        read_only: true,
        image: None,
    })
}

async fn files(
    cx: &Context<'_>,
    one: &VolumeProjection,
    index: usize,
    mode: i32,
) -> Result<Payload, String> {
    if let Some(s) = &one.secret {
        return secret::payload(
            cx,
            &s.name,
            s.optional == Some(true),
            s.items.as_deref(),
            mode,
        );
    }
    if let Some(s) = &one.config_map {
        let optional = s.optional == Some(true);
        return config_map::payload(cx, &s.name, optional, s.items.as_deref(), mode);
    }
    if let Some(s) = &one.downward_api {
        return downward_api::payload(cx, s.items.as_deref().unwrap_or_default(), mode);
    }
    if let Some(s) = &one.service_account_token {
        return token(cx, s, mode).await;
    }
    if let Some(s) = &one.cluster_trust_bundle {
        let all = cx.kubelet.trust_bundles();
        let data = trust_bundles::file(s, all.iter().map(AsRef::as_ref))?;
        return Ok(Payload::from([(s.path.clone(), owned(cx, data, mode))]));
    }
    if let Some(s) = &one.pod_certificate {
        return certificate(cx, s, index, mode).await;
    }
    Ok(Payload::new())
}

async fn token(
    cx: &Context<'_>,
    s: &ServiceAccountTokenProjection,
    mode: i32,
) -> Result<Payload, String> {
    let audience = s.audience.as_deref().unwrap_or_default();
    let token = cx
        .kubelet
        .tokens
        .get(&cx.kubelet.client, cx.pod, audience, s.expiration_seconds)
        .await?;
    let file = owned(cx, token.into_bytes(), mode);
    Ok(Payload::from([(s.path.clone(), file)]))
}

async fn certificate(
    cx: &Context<'_>,
    s: &PodCertificateProjection,
    index: usize,
    mode: i32,
) -> Result<Payload, String> {
    let source = Source {
        pod: cx.pod,
        volume: &cx.volume.name,
        index,
        projection: s,
    };
    let bundle = cx.kubelet.certificates.get(cx.kubelet, &source).await?;
    let both = format!("{}{}", bundle.key, bundle.chain);
    let files = [
        (&s.credential_bundle_path, both),
        (&s.key_path, bundle.key),
        (&s.certificate_chain_path, bundle.chain),
    ];
    let named = files.into_iter().filter_map(|(path, data)| {
        let path = path.as_ref().filter(|p| !p.is_empty())?;
        Some((path.clone(), owned(cx, data.into_bytes(), mode)))
    });
    Ok(named.collect())
}

/// A file that only the pod's user or group reads, where it has one.
fn owned(cx: &Context<'_>, data: Vec<u8>, mode: i32) -> File {
    let owner = only_user(cx.pod);
    let private = owner.is_some() || cx.fs_group().is_some();
    File {
        data,
        mode: if private {
            0o600
        } else {
            u32::try_from(mode).unwrap_or(0o644)
        },
        uid: owner,
    }
}

/// The user that all containers run as, if the spec says so for each.
fn only_user(p: &Pod) -> Option<u32> {
    let all = pod::all_containers(p);
    let mut users = all.iter().map(|c| security::run_as_user(p, &c.container));
    let first = users.next()??;
    users
        .all(|u| u == Some(first))
        .then(|| u32::try_from(first).ok())
        .flatten()
}
