//! Control groups of any layout: version 1, version 2, and hybrid (version 1 with a version 2 hierarchy
//! beside it). A group is named by one path below a root and exists in all hierarchies at once.
//! Facts: kernel Documentation/admin-guide/cgroup-v1, cgroup-v2.rst.

pub mod devices;
pub mod kill;
pub mod layout;
pub mod limits;
pub mod stats;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use devices::DeviceRule;
pub use layout::{Hierarchy, Layout, Version};
pub use limits::{Limits, Weight, Write};
pub use stats::Stats;

/// Leaf into which processes of the root move where version 2 forbids them beside child groups.
const LEAF: &str = "k0s-self";

/// A failed operation on control groups.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct Error {
    pub operation: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// The groups below one root.
#[derive(Clone, Debug)]
pub struct Cgroups {
    /// Each with the directory of the root in it.
    roots: Vec<(Hierarchy, PathBuf)>,
}

impl Error {
    fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

// === Cgroups ===

impl Cgroups {
    /// Finds the machine's hierarchies. An absolute `root` counts from their tops, a relative one from the
    /// calling process's own group in each.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let layout = Layout::read().map_err(|e| Error::new("read", Path::new("/proc/self"), e))?;
        if layout.hierarchies.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted");
            return Err(Error::new("open", Path::new("/sys/fs/cgroup"), none));
        }
        Ok(Self::with_layout(layout, root))
    }

    fn with_layout(layout: Layout, root: &Path) -> Self {
        let roots = layout.hierarchies.into_iter().map(|hierarchy| {
            let dir = match root.strip_prefix("/") {
                Ok(absolute) => hierarchy.mount.join(absolute),
                Err(_) => {
                    let own = hierarchy.own.strip_suffix(LEAF).unwrap_or(&hierarchy.own);
                    hierarchy
                        .mount
                        .join(own.trim_matches('/'))
                        .join(root.as_os_str())
                }
            };
            (hierarchy, dir)
        });
        Self {
            roots: roots.collect(),
        }
    }

    /// Whether limits are those of version 2.
    pub fn is_unified(&self) -> bool {
        self.roots.len() == 1 && self.roots[0].0.version == Version::V2
    }

    /// The hierarchies, each with the directory of group `path`.
    pub fn directories(&self, path: &str) -> Vec<(&Hierarchy, PathBuf)> {
        let path = path.trim_matches('/');
        let all = self.roots.iter();
        all.map(|(h, root)| {
            (
                h,
                if path.is_empty() {
                    root.clone()
                } else {
                    root.join(path)
                },
            )
        })
        .collect()
    }

    /// The directory of group `path` where controller `name` works.
    pub fn directory(&self, path: &str, name: &str) -> Option<PathBuf> {
        let all = self.directories(path);
        let v1 = all.iter().find(|(h, _)| h.controls(name));
        v1.or_else(|| all.iter().find(|(h, _)| h.version == Version::V2))
            .map(|(_, dir)| dir.clone())
    }

    /// Makes a group and what lies above it, with all controllers in force on version 2.
    pub fn create(&self, path: &str) -> Result<(), Error> {
        // Beside version 1 no controller of version 2 is used: its hierarchy only groups processes.
        let delegated = self.is_unified();
        for (hierarchy, root) in &self.roots {
            let mut dir = root.clone();
            create_tree(hierarchy, &dir, delegated)?;
            for part in path.split('/').filter(|p| !p.is_empty()) {
                if delegated {
                    delegate(&dir, &hierarchy.mount)?;
                }
                dir.push(part);
                create_one(hierarchy, &dir)?;
            }
        }
        Ok(())
    }

    /// Whether a group exists in any hierarchy.
    pub fn exists(&self, path: &str) -> bool {
        self.directories(path).iter().any(|(_, dir)| dir.is_dir())
    }

    /// Removes a group and all below it, which must hold no processes. Absent ones are fine.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        let mut result = Ok(());
        for (_, dir) in self.directories(path) {
            if let Err(e) = remove_tree(&dir) {
                result = Err(Error::new("remove cgroup", &dir, e));
            }
        }
        result
    }

    /// Files that a process writes `0` to in order to join a group.
    pub fn procs_files(&self, path: &str) -> Vec<PathBuf> {
        let dirs = self.directories(path).into_iter();
        dirs.map(|(_, dir)| dir.join("cgroup.procs")).collect()
    }

    /// Brings limits into force, in an order in which the kernel accepts them.
    pub fn apply(&self, path: &str, limits: &Limits) -> Result<(), Error> {
        for write in limits.plan(self.is_unified()) {
            let Some(dir) = self.directory(path, write.controller) else {
                continue;
            };
            let file = dir.join(&write.file);
            match fs::write(&file, &write.value) {
                Ok(()) => {}
                // A kernel built without this switch; nothing was asked that it could do.
                Err(e) if write.optional && e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::new("write", &file, e)),
            }
        }
        Ok(())
    }
}

fn create_tree(hierarchy: &Hierarchy, dir: &Path, delegated: bool) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|p| p.starts_with(&hierarchy.mount)) {
        create_tree(hierarchy, parent, delegated)?;
        if delegated {
            delegate(parent, &hierarchy.mount)?;
        }
    }
    create_one(hierarchy, dir)
}

fn create_one(hierarchy: &Hierarchy, dir: &Path) -> Result<(), Error> {
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) => return Err(Error::new("create cgroup", dir, e)),
    }
    if hierarchy.version == Version::V1 && hierarchy.controls("cpuset") {
        // A version 1 cpuset starts empty and then takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let Some(parent) = dir.parent() else { break };
            let value = fs::read_to_string(parent.join(file))
                .map_err(|e| Error::new("read", &parent.join(file), e))?;
            fs::write(dir.join(file), value.trim())
                .map_err(|e| Error::new("write", &dir.join(file), e))?;
        }
    }
    Ok(())
}

/// Gives all controllers of a version 2 group to its children.
fn delegate(dir: &Path, top: &Path) -> Result<(), Error> {
    let control = dir.join("cgroup.subtree_control");
    let read = |file: PathBuf| match fs::read_to_string(&file) {
        Ok(text) => Ok(text),
        Err(e) => Err(Error::new("read", &file, e)),
    };
    let available = read(dir.join("cgroup.controllers"))?;
    let enabled = read(control.clone())?;
    let missing = layout::missing_controllers(&available, &enabled);
    for controller in missing {
        let text = format!("+{controller}");
        let mut done = fs::write(&control, &text);
        if done
            .as_ref()
            .is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY))
            && dir != top
        {
            move_to_leaf(dir)?;
            done = fs::write(&control, &text);
        }
        match done {
            Ok(()) => {}
            // Real-time processes keep `cpu` out, threaded groups most others: limits of that controller
            // then fail where they are asked for.
            Err(error) => {
                tracing::debug!(%controller, dir = %dir.display(), %error, "cgroup controller not delegated")
            }
        }
    }
    Ok(())
}

fn move_to_leaf(dir: &Path) -> Result<(), Error> {
    let leaf = dir.join(LEAF);
    match fs::create_dir(&leaf) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::new("create cgroup", &leaf, e)),
    }
    let procs = dir.join("cgroup.procs");
    let list = fs::read_to_string(&procs).map_err(|e| Error::new("read", &procs, e))?;
    for pid in list.lines() {
        match fs::write(leaf.join("cgroup.procs"), pid) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(e) => return Err(Error::new("move process to", &leaf, e)),
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
