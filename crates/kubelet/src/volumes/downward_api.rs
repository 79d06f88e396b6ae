//! downwardAPI: fields and resources of the pod as files. Upstream: pkg/volume/downwardapi.

use api::core::v1::DownwardAPIVolumeFile;

use super::{Context, Kind, Mounted, secret_dir};
use crate::atomic_writer::{self, File, Payload};
use crate::downward;

pub static KIND: Kind = Kind {
    plugin: "kubernetes.io~downward-api",
    is: |v| v.downward_api.is_some(),
    setup: |cx| Box::pin(async move { setup(cx) }),
};

fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let Some(source) = cx.volume.downward_api.as_ref() else {
        return Err("the volume has no downwardAPI".into());
    };
    let items = source.items.as_deref().unwrap_or_default();
    let payload = payload(cx, items, source.default_mode.unwrap_or(0o644))?;
    let path = cx.dir(KIND.plugin);
    secret_dir(&path)?;
    atomic_writer::write(&path, &payload, cx.fs_group()).map_err(|e| e.to_string())?;
    Ok(Mounted {
        path,
        read_only: true,
        image: None,
    })
}

/// The files of items.
pub fn payload(
    cx: &Context<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    for item in items {
        let text = if let Some(f) = &item.field_ref {
            downward::field(cx.pod, &f.field_path, cx.facts)?
        } else if let Some(r) = &item.resource_field_ref {
            downward::resource(cx.pod, None, r, cx.facts)?
        } else {
            continue;
        };
        out.insert(
            item.path.clone(),
            File {
                data: text.into_bytes(),
                mode: u32::try_from(item.mode.unwrap_or(mode)).unwrap_or(0o644),
                uid: None,
            },
        );
    }
    Ok(out)
}
