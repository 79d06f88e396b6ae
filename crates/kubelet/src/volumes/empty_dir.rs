//! emptyDir: a directory that lives as long as the pod, on disk or in memory. Upstream: pkg/volume/emptydir.

use api::quantity::Quantity;

use super::{Context, Kind, Mounted, make_dir, ownership};
use crate::resources::{Side, pod_amounts};

pub static KIND: Kind = Kind {
    plugin: "kubernetes.io~empty-dir",
    is: |v| v.empty_dir.is_some(),
    setup: |cx| Box::pin(async move { setup(cx) }),
};

fn setup(cx: &Context<'_>) -> Result<Mounted, String> {
    let source = cx.volume.empty_dir.as_ref();
    let medium = source.and_then(|s| s.medium.as_deref()).unwrap_or_default();
    let path = cx.dir(KIND.plugin);
    let mounted = Mounted {
        path: path.clone(),
        ..Mounted::default()
    };
    match medium {
        "" => {
            if path.is_dir() {
                return Ok(mounted);
            }
            make_dir(&path, 0o777)?;
        }
        "Memory" => {
            if linux::volume::is_mount_point(&path).map_err(|e| e.to_string())? {
                return Ok(mounted);
            }
            make_dir(&path, 0o777)?;
            let mut options = "mode=0777".to_string();
            if let Some(size) = size(cx) {
                options.push_str(&format!(",size={size}"));
            }
            linux::volume::mount_tmpfs(&path, &options)
                .map_err(|e| format!("mount tmpfs at {}: {e}", path.display()))?;
        }
        m if m.starts_with("HugePages") => {
            return Err(format!(
                "medium {m}: huge pages are not supported by this kubelet"
            ));
        }
        m => return Err(format!("unknown storage medium {m:?}")),
    }
    if let Some(group) = cx.fs_group() {
        ownership::apply(&path, group, false, None)?;
    }
    Ok(mounted)
}

/// The least of the volume's own limit, the pod's memory limit and what the node has.
fn size(cx: &Context<'_>) -> Option<i64> {
    let own = cx.volume.empty_dir.as_ref()?.size_limit.as_ref();
    let own = own.and_then(|q| Quantity::parse(&q.0).ok());
    let own = own.map(|q| q.value()).filter(|v| *v > 0);
    let limits = pod_amounts(cx.pod, Side::Limits);
    let of_pod = limits.get("memory").map(Quantity::value);
    let of_node = cx.facts.allocatable.get("memory").map(Quantity::value);
    [own, of_pod, of_node].into_iter().flatten().min()
}
