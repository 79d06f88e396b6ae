//! Device nodes and the usual links of `/dev`.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use super::paths::{self, Kind};
use crate::plan::DevicePlan;

/// Links that every container's `/dev` has.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Makes a node below `root` with its exact mode and owner.
pub fn make(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), String> {
    let fail = |e: Errno| format!("create device {}: {e}", device.path);
    let (parent, name) = device
        .path
        .rsplit_once('/')
        .ok_or("device without a path")?;
    let parent = paths::ensure(
        root,
        if parent.is_empty() { "/" } else { parent },
        Kind::Directory,
    )
    .map_err(fail)?;
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        _ => FileType::CharacterDevice,
    };
    let number = rustix::fs::makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&parent, name, kind, mode, number) {
        Ok(()) => {}
        // Named twice (a device of the user's that is there by default).
        Err(Errno::EXIST) => return Ok(()),
        Err(e) => return Err(fail(e)),
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags).map_err(fail)
}

/// Makes the usual links.
pub fn link(root: BorrowedFd<'_>) -> Result<(), String> {
    let dev = paths::open(root, "/dev").map_err(|e| format!("open /dev: {e}"))?;
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(*target, dev.as_fd(), *name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(format!("link /dev/{name}: {e}")),
        }
    }
    Ok(())
}
