//! Mounts by descriptor: trees are cloned and file systems made detached, then moved to where they belong,
//! so that no path is walked twice. mount_setattr(2), open_tree(2), fsopen(2).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// How far an attribute reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This mount.
    One,
    /// It and all below.
    Tree,
}

/// A detached clone of the mounts at and below `path`.
pub fn clone_tree(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

/// A new, detached file system of a kind, with options.
pub fn new_filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "source", kind)?;
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs.as_fd(), *key, *value)?,
            None => rustix::mount::fsconfig_set_flag(fs.as_fd(), *key)?,
        }
    }
    rustix::mount::fsconfig_create(fs.as_fd())?;
    rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached mount at an opened file or directory.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
}

/// Sets attributes of a mount by its descriptor. `Reach::One` works on any kernel, `Reach::Tree` from 5.12.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    reach: Reach,
) -> Result<(), Errno> {
    let attr = MountAttr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if reach == Reach::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    let empty: &CStr = c"";
    // SAFETY: the path is a terminated string and the structure lives through the call, which reads it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOSYS) if reach == Reach::One => remount(tree, attributes),
        raw => Err(Errno::from_raw_os_error(raw.unwrap_or(libc::EINVAL))),
    }
}

/// Sets how later mounts cross a mount and all below.
pub fn set_propagation(
    tree: BorrowedFd<'_>,
    propagation: MountPropagationFlags,
) -> Result<(), Errno> {
    rustix::mount::mount_change(magic_path(tree), propagation | MountPropagationFlags::REC)
}

/// The path through which an open descriptor is named; good while `/proc` is mounted.
pub fn magic_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Before kernel 5.12: a bind remount with the attributes that are there already and the new ones.
fn remount(tree: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<(), Errno> {
    let kept = rustix::fs::fstatvfs(tree)?.f_flag;
    let mut flags = MountFlags::BIND;
    for (attribute, kept_as, flag) in [
        (
            MountAttrFlags::MOUNT_ATTR_RDONLY,
            rustix::fs::StatVfsMountFlags::RDONLY,
            MountFlags::RDONLY,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NOSUID,
            rustix::fs::StatVfsMountFlags::NOSUID,
            MountFlags::NOSUID,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NODEV,
            rustix::fs::StatVfsMountFlags::NODEV,
            MountFlags::NODEV,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NOEXEC,
            rustix::fs::StatVfsMountFlags::NOEXEC,
            MountFlags::NOEXEC,
        ),
    ] {
        if attributes.contains(attribute) || kept.contains(kept_as) {
            flags |= flag;
        }
    }
    rustix::mount::mount_remount(magic_path(tree), flags, c"")
}
