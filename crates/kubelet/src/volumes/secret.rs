//! secret: keys of a Secret as files in memory. Upstream: pkg/volume/secret.

use api::core::v1::KeyToPath;

use super::{Context, Kind, Mounted, config_map, secret_dir};
use crate::atomic_writer::{self, Payload};
use crate::env::Objects;

pub static KIND: Kind = Kind {
    plugin: "kubernetes.io~secret",
    is: |v| v.secret.is_some(),
    setup: |cx| Box::pin(async move { setup(cx) }),
};

fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let Some(source) = cx.volume.secret.as_ref() else {
        return Err("the volume has no secret".into());
    };
    let name = source.secret_name.as_deref().unwrap_or_default();
    let payload = payload(
        cx,
        name,
        source.optional == Some(true),
        source.items.as_deref(),
        source.default_mode.unwrap_or(0o644),
    )?;
    let path = cx.dir(KIND.plugin);
    secret_dir(&path)?;
    atomic_writer::write(&path, &payload, cx.fs_group()).map_err(|e| e.to_string())?;
    Ok(Mounted {
        path,
        read_only: true,
        image: None,
    })
}

/// The files of a Secret.
pub fn payload(
    cx: &Context<'_>,
    name: &str,
    optional: bool,
    items: Option<&[KeyToPath]>,
    mode: i32,
) -> Result<Payload, String> {
    let Some(secret) = cx.kubelet.secret(cx.namespace(), name) else {
        if optional {
            return Ok(Payload::new());
        }
        return Err(format!("secret {name:?} not found"));
    };
    let data = secret.data.iter().flatten();
    let all: Vec<(&str, &[u8])> = data.map(|(k, v)| (k.as_str(), v.0.as_slice())).collect();
    config_map::select(
        &all,
        optional,
        items,
        mode,
        "references non-existent secret key",
    )
}
