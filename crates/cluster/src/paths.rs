//! Every path on disk, under the data directory and the run directory. k0s: docs/directories.md.

use std::path::{Path, PathBuf};

/// The data directory k0s uses when none is named.
pub const DATA_DIR: &str = "/var/lib/k0s";
/// The configuration file k0s reads when none is named.
pub const CONFIG_FILE: &str = "/etc/k0s/k0s.yaml";

/// The paths of one node.
#[derive(Clone, Debug)]
pub struct Paths {
    pub data: PathBuf,
    pub run: PathBuf,
}

// === Paths ===

impl Paths {
    /// The paths under a data directory. The run directory is `/run/k0s` for the default data directory
    /// of root; any other data directory holds its own, so that several nodes live side by side.
    pub fn new(data: &Path) -> Self {
        let default = data == Path::new(DATA_DIR) && is_root();
        let run = if default {
            PathBuf::from("/run/k0s")
        } else {
            data.join("run")
        };
        Self {
            data: data.to_path_buf(),
            run,
        }
    }

    /// `pki`.
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// The admin's kubeconfig.
    pub fn admin_conf(&self) -> PathBuf {
        self.pki().join("admin.conf")
    }

    /// The embedded store's file.
    pub fn database(&self) -> PathBuf {
        self.data.join("db/state.db")
    }

    /// Who asked the API server for what.
    pub fn audit_log(&self) -> PathBuf {
        self.data.join("audit/audit.log")
    }

    /// The keys that objects are sealed with in the store.
    pub fn encryption(&self) -> PathBuf {
        self.pki().join("encryption.yaml")
    }

    /// Manifest stacks.
    pub fn manifests(&self) -> PathBuf {
        self.data.join("manifests")
    }

    /// Pods that files describe.
    pub fn static_pods(&self) -> PathBuf {
        self.data.join("kubelet/manifests")
    }

    /// Air-gap image bundles.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Images: blobs, unpacked layers, names.
    pub fn image_store(&self) -> PathBuf {
        self.data.join("oci")
    }

    /// Where logs of pods go instead of `/var/log`, for any data directory but the default one.
    pub fn private_logs(&self) -> Option<PathBuf> {
        (self.data != Path::new(DATA_DIR)).then(|| self.data.join("log"))
    }

    /// The parent of all groups of this node: the tops of the hierarchies for the default data
    /// directory, one of its own for any other, so that several nodes live side by side.
    pub fn cgroup_root(&self) -> PathBuf {
        if self.data == Path::new(DATA_DIR) {
            return PathBuf::from("/");
        }
        let hash = crate::manifests::checksum(&self.data.display().to_string());
        PathBuf::from(format!("/k0s-{}", &hash[..12]))
    }

    /// The socket `k0s status` talks to.
    pub fn status_socket(&self) -> PathBuf {
        self.run.join("status.sock")
    }
}

/// Whether this process is root; the owner of `/proc/self` is its effective user.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
