//! Volumes of pods: set up before containers start, kept up to date, taken down at the end.
//! One file per kind in `volumes/`, one line in `KINDS`. Upstream: pkg/kubelet/volumemanager, pkg/volume.

mod config_map;
mod downward_api;
mod empty_dir;
mod ephemeral;
mod host_path;
mod image;
mod ownership;
mod persistent_volume_claim;
mod projected;
mod secret;
pub mod sub_path;
mod unsupported;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use api::core::v1::{Pod, Volume};
use futures::future::BoxFuture;

use crate::downward::Facts;
use crate::kubelet::Kubelet;
use crate::pod;

/// A volume that is ready to be mounted into containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    pub path: PathBuf,
    /// The volume cannot be written whatever its mounts say.
    pub read_only: bool,
    /// Reference of the image that is the volume.
    pub image: Option<String>,
}

/// Mounted volumes by name.
pub type Volumes = HashMap<String, Mounted>;

/// What a kind of volume is set up from.
pub struct Context<'a> {
    pub kubelet: &'a Kubelet,
    pub pod: &'a Pod,
    pub volume: &'a Volume,
    pub facts: &'a Facts,
}

/// One kind of volume.
pub struct Kind {
    /// Directory name, such as `kubernetes.io~empty-dir`; `""` for kinds with no directory of their own.
    pub plugin: &'static str,
    pub is: fn(&Volume) -> bool,
    /// Makes or refreshes the volume. Idempotent: it runs at each sync.
    pub setup: for<'a> fn(&'a Context<'a>) -> BoxFuture<'a, Result<Mounted, String>>,
}

/// All kinds; the last one answers for those that are not supported.
pub static KINDS: &[&Kind] = &[
    &empty_dir::KIND,
    &config_map::KIND,
    &secret::KIND,
    &projected::KIND,
    &downward_api::KIND,
    &host_path::KIND,
    &image::KIND,
    &persistent_volume_claim::KIND,
    &ephemeral::KIND,
    &unsupported::KIND,
];

/// Why a volume is not ready: its name and what failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeError {
    pub volume: String,
    pub message: String,
}

// === Context ===

impl Context<'_> {
    /// The volume's own directory.
    pub fn dir(&self, plugin: &str) -> PathBuf {
        dir(self.kubelet, pod::uid(self.pod), plugin, &self.volume.name)
    }

    /// The pod's fsGroup.
    pub fn fs_group(&self) -> Option<u32> {
        let security = pod::spec(self.pod).security_context.as_ref();
        security
            .and_then(|s| s.fs_group)
            .and_then(|g| u32::try_from(g).ok())
    }

    /// The pod's size limit for memory-backed directories, at most what it and the node may use.
    pub fn namespace(&self) -> &str {
        pod::namespace(self.pod)
    }
}

/// Directory of one volume of a pod.
pub fn dir(kubelet: &Kubelet, uid: &str, plugin: &str, name: &str) -> PathBuf {
    kubelet
        .paths
        .pod(uid)
        .join("volumes")
        .join(plugin)
        .join(name)
}

/// Sets all volumes up that some container uses. All errors are gathered.
pub async fn setup(
    kubelet: &Kubelet,
    p: &Pod,
    facts: &Facts,
) -> Result<Volumes, (Volumes, Vec<VolumeError>)> {
    let used = used_volumes(p);
    let (mut ready, mut errors) = (Volumes::new(), Vec::new());
    let all = pod::spec(p).volumes.iter().flatten();
    for volume in all.filter(|v| used.contains(&v.name.as_str())) {
        let cx = Context {
            kubelet,
            pod: p,
            volume,
            facts,
        };
        let Some(kind) = KINDS.iter().find(|k| (k.is)(volume)) else {
            continue;
        };
        match (kind.setup)(&cx).await {
            Ok(mounted) => {
                ready.insert(volume.name.clone(), mounted);
            }
            Err(message) => errors.push(VolumeError {
                volume: volume.name.clone(),
                message,
            }),
        }
    }
    if errors.is_empty() {
        Ok(ready)
    } else {
        Err((ready, errors))
    }
}

fn used_volumes(p: &Pod) -> Vec<&str> {
    let spec = pod::spec(p);
    let lists = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut used: Vec<&str> = lists
        .flat_map(|c| c.volume_mounts.iter().flatten())
        .map(|m| m.name.as_str())
        .collect();
    let ephemeral = pod::ephemeral_containers(p).iter();
    used.extend(
        ephemeral
            .flat_map(|c| c.volume_mounts.iter().flatten())
            .map(|m| m.name.as_str()),
    );
    used
}

/// Takes all volumes of a pod down: unmounts, then removes directories. Errors are gathered.
pub fn teardown(kubelet: &Kubelet, uid: &str) -> Vec<String> {
    let pod_dir = kubelet.paths.pod(uid);
    let mut errors = Vec::new();
    if !pod_dir.exists() {
        return errors;
    }
    match linux::volume::mounts_below(&pod_dir) {
        Ok(mounts) => {
            for m in mounts {
                if let Err(e) = linux::volume::unmount(&m) {
                    errors.push(format!("unmount {}: {e}", m.display()));
                }
            }
        }
        Err(e) => errors.push(format!("list mounts: {e}")),
    }
    if errors.is_empty()
        && let Err(e) = remove_tree(&pod_dir)
    {
        errors.push(format!("remove {}: {e}", pod_dir.display()));
    }
    errors
}

/// Removes a directory that no mount is left in.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    if !linux::volume::mounts_below(dir)?.is_empty() {
        return Err(std::io::Error::other("something is still mounted below"));
    }
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a directory of a volume.
fn make_dir(path: &Path, mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let make = || {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    make().map_err(|e: std::io::Error| format!("make directory {}: {e}", path.display()))
}

/// Makes a small tmpfs for secrets, once.
fn secret_dir(path: &Path) -> Result<(), String> {
    if linux::volume::is_mount_point(path).map_err(|e| e.to_string())? {
        return Ok(());
    }
    make_dir(path, 0o755)?;
    linux::volume::mount_tmpfs(path, "mode=0755")
        .map_err(|e| format!("mount tmpfs at {}: {e}", path.display()))
}
