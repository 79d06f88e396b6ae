//! The mounts of a container: sources are opened in the node's mount namespace, then attached one after the
//! other below the new root.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cri::MountPropagation;
use linux::mount::{self, Reach};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags};

use super::paths::{self, Kind};
use crate::plan::{MountFlag, MountPlan};

/// Opened sources by position of their mount.
pub struct Sources {
    trees: BTreeMap<usize, OwnedFd>,
}

/// Opens what the mounts bind, as it is outside.
pub fn open_sources(mounts: &[MountPlan]) -> Result<Sources, String> {
    let mut trees = BTreeMap::new();
    for (at, mount) in mounts.iter().enumerate() {
        if let MountPlan::Bind { source, .. } = mount {
            let tree = mount::clone_tree(source)
                .map_err(|e| format!("open mount source {}: {e}", source.display()))?;
            trees.insert(at, tree);
        }
    }
    Ok(Sources { trees })
}

/// Carries out one mount below `root`.
pub fn carry_out(
    root: BorrowedFd<'_>,
    at: usize,
    plan: &MountPlan,
    sources: &mut Sources,
) -> Result<(), String> {
    match plan {
        MountPlan::Bind {
            target,
            readonly,
            recursive_readonly,
            propagation,
            ..
        } => {
            let tree = sources.trees.remove(&at).ok_or("mount source is missing")?;
            attach_tree(root, &tree, target)?;
            set_propagation(&tree, *propagation, target)?;
            if *recursive_readonly {
                set(
                    &tree,
                    MountAttrFlags::MOUNT_ATTR_RDONLY,
                    Reach::Tree,
                    target,
                )?;
            } else if *readonly {
                set(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::One, target)?;
            }
            Ok(())
        }
        MountPlan::Filesystem {
            kind,
            target,
            options,
            flags,
        } => filesystem(root, kind, target, options, attributes(flags)),
        MountPlan::Image {
            layers,
            scratch,
            sub_path,
            target,
        } => image(root, layers, scratch, sub_path, target),
        MountPlan::CgroupV1 {
            target,
            hierarchies,
            readonly,
        } => cgroup_v1(root, target, hierarchies, *readonly),
    }
}

/// Mounts layers (bottom first) at `target`, writable where `upper` and `work` are given.
pub fn overlay(
    layers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    target: &Path,
) -> Result<(), String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |dir: &Path| {
        rustix::fs::open(dir, flags, Mode::empty())
            .map_err(|e| format!("open layer {}: {e}", dir.display()))
    };
    // Named by descriptors: short enough for any number of layers, and free of characters that mean more.
    let top_first: Result<Vec<OwnedFd>, String> = layers.iter().rev().map(|l| open(l)).collect();
    let top_first = top_first?;
    let names: Vec<String> = top_first
        .iter()
        .map(|fd| mount::magic_path(fd.as_fd()))
        .collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    let mut keep = Vec::new();
    if let Some((upper, work)) = writable {
        for (name, dir) in [("upperdir", upper), ("workdir", work)] {
            let fd = open(dir)?;
            options.push_str(&format!(",{name}={}", mount::magic_path(fd.as_fd())));
            keep.push(fd);
        }
    }
    let options = std::ffi::CString::new(options).map_err(|e| e.to_string())?;
    let kind = c"overlay";
    rustix::mount::mount(
        kind,
        target,
        kind,
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
    .map_err(|e| format!("mount overlay of {} layers: {e}", layers.len()))
}

fn filesystem(
    root: BorrowedFd<'_>,
    kind: &str,
    target: &str,
    options: &[(String, Option<String>)],
    attributes: MountAttrFlags,
) -> Result<(), String> {
    let options: Vec<(&str, Option<&str>)> = options
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_deref()))
        .collect();
    let tree = mount::new_filesystem(kind, &options, attributes)
        .map_err(|e| format!("mount {kind} at {target}: {e}"))?;
    attach_tree_as(root, &tree, target, Kind::Directory)
}

fn image(
    root: BorrowedFd<'_>,
    layers: &[PathBuf],
    scratch: &Path,
    sub_path: &str,
    target: &str,
) -> Result<(), String> {
    let fail = |e: String| format!("ImageVolumeMountFailed: {e}");
    fs::create_dir_all(scratch).map_err(|e| fail(format!("mkdir {}: {e}", scratch.display())))?;
    match layers {
        [] => filesystem(
            root,
            "tmpfs",
            target,
            &[],
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?,
        [one] => rustix::mount::mount_bind(one, scratch)
            .map_err(|e| fail(format!("bind {}: {e}", one.display())))?,
        many => overlay(many, None, scratch).map_err(fail)?,
    }
    if layers.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(scratch, flags, Mode::empty())
        .map_err(|e| fail(format!("open {}: {e}", scratch.display())))?;
    let below = paths::open(base.as_fd(), sub_path)
        .map_err(|e| fail(format!("image sub path {sub_path}: {e}")))?;
    let tree = mount::clone_tree(Path::new(&mount::magic_path(below.as_fd())))
        .map_err(|e| fail(format!("clone image tree: {e}")))?;
    drop((below, base));
    rustix::mount::unmount(scratch, UnmountFlags::DETACH)
        .map_err(|e| fail(format!("unmount {}: {e}", scratch.display())))?;
    attach_tree(root, &tree, target)?;
    set_propagation(&tree, MountPropagation::Private, target)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    set(&tree, attributes, Reach::One, target)
}

fn cgroup_v1(
    root: BorrowedFd<'_>,
    target: &str,
    hierarchies: &[(String, Option<String>)],
    readonly: bool,
) -> Result<(), String> {
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let top = mount::new_filesystem("tmpfs", &[("mode", Some("755"))], flags)
        .map_err(|e| format!("mount tmpfs at {target}: {e}"))?;
    attach_tree_as(root, &top, target, Kind::Directory)?;
    if readonly {
        flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    for (name, options) in hierarchies {
        let at = format!("{target}/{name}");
        match options {
            None => filesystem(root, "cgroup2", &at, &[], flags)?,
            Some(options) => {
                let parse = |o: &str| match o.split_once('=') {
                    Some((k, v)) => (k.to_owned(), Some(v.to_owned())),
                    None => (o.to_owned(), None),
                };
                let options: Vec<_> = options.split(',').map(parse).collect();
                filesystem(root, "cgroup", &at, &options, flags)?;
                link_controllers(root, target, name)?;
            }
        }
    }
    match readonly {
        true => set(&top, MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::One, target),
        false => Ok(()),
    }
}

/// `cpu` and `cpuacct` beside `cpu,cpuacct`.
fn link_controllers(root: BorrowedFd<'_>, target: &str, name: &str) -> Result<(), String> {
    if !name.contains(',') {
        return Ok(());
    }
    let dir = paths::open(root, target).map_err(|e| format!("open {target}: {e}"))?;
    for controller in name.split(',') {
        rustix::fs::symlinkat(name, &dir, controller)
            .map_err(|e| format!("link {target}/{controller}: {e}"))?;
    }
    Ok(())
}

/// Attaches a tree where a mount point of its own kind is, or is made.
fn attach_tree(root: BorrowedFd<'_>, tree: &OwnedFd, target: &str) -> Result<(), String> {
    let stat = rustix::fs::fstat(tree).map_err(|e| format!("stat source of {target}: {e}"))?;
    let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    attach_tree_as(root, tree, target, kind)
}

fn attach_tree_as(
    root: BorrowedFd<'_>,
    tree: &OwnedFd,
    target: &str,
    kind: Kind,
) -> Result<(), String> {
    let point = paths::ensure(root, target, kind)
        .map_err(|e| format!("create mountpoint for {target} mount: {e}"))?;
    mount::attach(tree.as_fd(), point.as_fd()).map_err(|e| match e {
        rustix::io::Errno::NOTDIR => format!(
            "mount to {target}: not a directory: Are you trying to mount a directory onto a file \
             (or vice-versa)? Check if the specified host path exists and is the expected type"
        ),
        e => format!("mount at {target}: {e}"),
    })
}

fn set_propagation(
    tree: &OwnedFd,
    propagation: MountPropagation,
    target: &str,
) -> Result<(), String> {
    let flag = match propagation {
        MountPropagation::Private => MountPropagationFlags::PRIVATE,
        MountPropagation::HostToContainer => MountPropagationFlags::DOWNSTREAM,
        MountPropagation::Bidirectional => MountPropagationFlags::SHARED,
    };
    mount::set_propagation(tree.as_fd(), flag)
        .map_err(|e| format!("set propagation of {target}: {e}"))
}

fn set(tree: &OwnedFd, flags: MountAttrFlags, reach: Reach, target: &str) -> Result<(), String> {
    mount::set_attributes(tree.as_fd(), flags, reach)
        .map_err(|e| format!("set mount attributes of {target}: {e}"))
}

fn attributes(flags: &[MountFlag]) -> MountAttrFlags {
    let mut all = MountAttrFlags::empty();
    for flag in flags {
        all |= match flag {
            MountFlag::NoSuid => MountAttrFlags::MOUNT_ATTR_NOSUID,
            MountFlag::NoDev => MountAttrFlags::MOUNT_ATTR_NODEV,
            MountFlag::NoExec => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            MountFlag::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
            MountFlag::StrictAtime => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        };
    }
    all
}
