//! Where the kubelet keeps what. Upstream: pkg/kubelet/config.

use std::path::{Path, PathBuf};

/// Folders of one kubelet.
#[derive(Clone, Debug)]
pub struct Paths {
    pub root: PathBuf,
    pub pod_logs: PathBuf,
    pub container_logs: PathBuf,
}

// === Paths ===

impl Paths {
    /// Folder of all pods.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Folder of one pod.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// The pod's /etc/hosts.
    pub fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// Folder of one container.
    pub fn container(&self, uid: &str, name: &str) -> PathBuf {
        self.pod(uid).join("containers").join(name)
    }

    /// Where a mount of a sub path is bound.
    pub fn sub_path(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        let base = self.pod(uid).join("volume-subpaths");
        base.join(volume).join(container).join(index.to_string())
    }

    /// Localhost seccomp profiles.
    pub fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    /// Folder of a pod's logs.
    pub fn logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// The link to a container's log that log collectors look for.
    pub fn log_link(&self, namespace: &str, pod: &str, container: &str, id: &str) -> PathBuf {
        let mut name = format!("{pod}_{namespace}_{container}-{id}");
        name.truncate(251);
        self.container_logs.join(format!("{name}.log"))
    }
}

/// Makes a folder for root only (others may pass).
pub fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
