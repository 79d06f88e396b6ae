//! Where state is: `root` survives restarts and holds what there is, `run` holds sockets and mounts.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cri::{ContainerConfig, Error, PodNetworkResult, PodSandboxConfig};
use rustix::mount::UnmountFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::ProcessPlan;

/// Folders of one runtime.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    run: PathBuf,
}

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Half made: a crash leaves it so, and the next start removes it.
    Creating,
    Ready,
    NotReady,
}

/// `sandbox.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: String,
    pub config: PodSandboxConfig,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub phase: Phase,
    pub network: Option<PodNetworkResult>,
    /// `None`: the node's network.
    pub netns: Option<PathBuf>,
    pub keeper_pid: i32,
    pub hostname: String,
}

/// `container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub sandbox: String,
    pub config: ContainerConfig,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    pub image_id: String,
    pub image_ref: String,
    pub log: Option<PathBuf>,
    pub cgroup: String,
    pub stop_signal: i32,
    pub process: ProcessPlan,
}

// === Disk ===

impl Disk {
    /// Makes the folders.
    pub fn open(root: PathBuf, run: PathBuf) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let disk = Self { root, run };
        for dir in [
            disk.sandboxes(),
            disk.containers(),
            disk.trash(),
            disk.runs(),
            disk.networks(),
        ] {
            let mut builder = fs::DirBuilder::new();
            let done = builder.recursive(true).mode(0o700).create(&dir);
            done.map_err(|e| failed("create", &dir, e))?;
        }
        Ok(disk)
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub fn runs(&self) -> PathBuf {
        self.run.join("sandboxes")
    }

    pub fn networks(&self) -> PathBuf {
        self.run.join("netns")
    }

    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// A sandbox's run directory.
    pub fn sandbox_run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    pub fn netns(&self, id: &str) -> PathBuf {
        self.networks().join(id)
    }

    pub fn shm(&self, id: &str) -> PathBuf {
        self.sandbox_run(id).join("shm")
    }

    /// Takes a directory out of sight at once and gives where it is deleted from.
    pub fn discard(&self, dir: &Path) -> Result<Option<PathBuf>, Error> {
        let name = dir.file_name().unwrap_or_default();
        let target = self.trash().join(name);
        match fs::rename(dir, &target) {
            Ok(()) => Ok(Some(target)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("discard", dir, e)),
        }
    }

    /// Unmounts and removes everything of a sandbox in `run`. Idempotent.
    pub fn clear_run(&self, id: &str) -> Result<(), Error> {
        let netns = self.netns(id);
        unmount(&netns)?;
        match fs::remove_file(&netns) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &netns, e));
            }
            _ => {}
        }
        unmount(&self.shm(id))?;
        let run = self.sandbox_run(id);
        match fs::remove_dir_all(&run) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &run, e)),
            _ => Ok(()),
        }
    }
}

/// Names in a directory.
pub fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed("list", dir, e))? {
        let entry = entry.map_err(|e| failed("list", dir, e))?;
        names.extend(entry.file_name().to_str().map(str::to_owned));
    }
    Ok(names)
}

/// Replaces a file with a record, readable by root only.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let fail = |e: io::Error| failed("write", path, e);
    let bytes = serde_json::to_vec(record).map_err(|e| fail(e.into()))?;
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new).map_err(fail)?;
    file.write_all(&bytes).map_err(fail)?;
    fs::rename(&new, path).map_err(fail)
}

/// Reads a record; `None` where there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path, e)),
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|e| failed("read", path, e.into()))
}

/// An error with the operation and the path.
pub fn failed(operation: &str, path: &Path, e: io::Error) -> Error {
    Error::internal(format!("{operation} {}: {e}", path.display()))
}

fn unmount(path: &Path) -> Result<(), Error> {
    // A crash between two starts can leave more than one on top of another.
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed("unmount", path, e.into())),
        }
    }
}
