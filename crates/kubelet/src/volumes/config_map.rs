//! configMap: keys of a ConfigMap as files. Upstream: pkg/volume/configmap.

use api::core::v1::{ConfigMap, KeyToPath};

use super::{Context, Kind, Mounted, make_dir};
use crate::atomic_writer::{self, File, Payload};

pub static KIND: Kind = Kind {
    plugin: "kubernetes.io~configmap",
    is: |v| v.config_map.is_some(),
    setup: |cx| Box::pin(async move { setup(cx) }),
};

fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let Some(source) = cx.volume.config_map.as_ref() else {
        return Err("the volume has no configMap".into());
    };
    let mode = source.default_mode.unwrap_or(0o644);
    let payload = payload(
        cx,
        &source.name,
        source.optional == Some(true),
        source.items.as_deref(),
        mode,
    )?;
    let path = cx.dir(KIND.plugin);
    make_dir(&path, 0o755)?;
    atomic_writer::write(&path, &payload, cx.fs_group()).map_err(|e| e.to_string())?;
    Ok(Mounted {
        path,
        read_only: true,
        image: None,
    })
}

/// The files of a ConfigMap.
pub fn payload(
    cx: &Context<'_>,
    name: &str,
    optional: bool,
    items: Option<&[KeyToPath]>,
    mode: i32,
) -> Result<Payload, String> {
    use crate::env::Objects;
    let Some(map) = cx.kubelet.config_map(cx.namespace(), name) else {
        if optional {
            return Ok(Payload::new());
        }
        return Err(format!("configmap {name:?} not found"));
    };
    project(&map, optional, items, mode)
}

fn project(
    map: &ConfigMap,
    optional: bool,
    items: Option<&[KeyToPath]>,
    mode: i32,
) -> Result<Payload, String> {
    let data = map.data.iter().flatten();
    let data = data.map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = map.binary_data.iter().flatten();
    let all: Vec<(&str, &[u8])> = data
        .chain(binary.map(|(k, v)| (k.as_str(), v.0.as_slice())))
        .collect();
    select(
        &all,
        optional,
        items,
        mode,
        "configmap references non-existent config key",
    )
}

/// All keys, or those that items name.
pub fn select(
    all: &[(&str, &[u8])],
    optional: bool,
    items: Option<&[KeyToPath]>,
    mode: i32,
    missing: &str,
) -> Result<Payload, String> {
    let file = |data: &[u8], mode: i32| File {
        data: data.to_vec(),
        mode: u32::try_from(mode).unwrap_or(0o644),
        uid: None,
    };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        let files = all.iter();
        return Ok(files
            .map(|(k, d)| ((*k).to_string(), file(d, mode)))
            .collect());
    };
    let mut out = Payload::new();
    for item in items {
        match all.iter().find(|(k, _)| *k == item.key) {
            Some((_, data)) => {
                out.insert(item.path.clone(), file(data, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_items_and_modes() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data":{"a":"1","b":"2"},"binaryData":{"c":"AA=="}}))
                .unwrap();
        let all = project(&map, false, None, 0o400).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (all["c"].data.as_slice(), all["a"].mode),
            (&[0_u8][..], 0o400)
        );
        let items: Vec<KeyToPath> = serde_json::from_value(
            json!([{"key":"a","path":"x/y","mode":256},{"key":"z","path":"z"}]),
        )
        .unwrap();
        let got = project(&map, true, Some(&items), 0o644).unwrap();
        assert_eq!((got.len(), got["x/y"].mode), (1, 0o400));
        assert_eq!(
            project(&map, false, Some(&items), 0o644).unwrap_err(),
            "configmap references non-existent config key: z"
        );
    }
}
