//! The root file system: an overlay over the image in a mount namespace of the container's own, so that the
//! node's mount table never shows it and nothing is left when the container ends.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::mount::{self, Reach};
use linux::volume;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};

use super::{devices, mounts};
use crate::plan::ContainerPlan;

/// Mounts everything and makes it the root. The working directory is the new root afterwards.
pub fn build(plan: &ContainerPlan, mut sources: mounts::Sources) -> Result<(), String> {
    let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    // Mounts made from here on stay here; those of the node still arrive.
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", downstream).map_err(fail("make mounts private"))?;
    rustix::process::umask(Mode::empty());
    let rootfs = &plan.rootfs;
    mounts::overlay(
        &rootfs.layers,
        Some((&rootfs.upper, &rootfs.work)),
        &rootfs.target,
    )?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&rootfs.target, flags, Mode::empty()).map_err(fail("open root"))?;
    for (at, mount) in plan.mounts.iter().enumerate() {
        mounts::carry_out(root.as_fd(), at, mount, &mut sources)?;
    }
    for device in &plan.devices {
        devices::make(root.as_fd(), device)?;
    }
    if plan.device_links {
        devices::link(root.as_fd())?;
    }
    change_root(&root)
}

/// Makes `root` the root and lets go of the old one.
fn change_root(root: &OwnedFd) -> Result<(), String> {
    let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    rustix::process::fchdir(root).map_err(fail("enter root"))?;
    // The old root is stacked on the new one's mount point, and then on top of `.`.
    match rustix::process::pivot_root(".", ".") {
        Err(Errno::INVAL) => return cover_root(),
        pivoted => pivoted.map_err(fail("pivot_root"))?,
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(fail("unmount old root"))?;
    rustix::process::chdir("/").map_err(fail("enter root"))
}

/// A node in an initramfs has the kernel's own root, which nothing can take the place of: the new root (the
/// working directory) goes on top of it, and everything else that was mounted goes away. On any other root
/// this would leave a way out, so it is refused there.
fn cover_root() -> Result<(), String> {
    let fail = |what: &'static str| move |e: Errno| format!("{what}: {e}");
    let table = |e: std::io::Error| format!("read the table of mounts: {e}");
    if !volume::root_is_bottom().map_err(table)? {
        return Err(format!("pivot_root: {}", Errno::INVAL));
    }
    let others = volume::mounts_below(Path::new("/")).map_err(table)?;
    rustix::mount::mount_move(".", "/").map_err(fail("move root"))?;
    // Until chroot, absolute paths begin at the old root.
    for mount in others.iter().filter(|m| *m != Path::new("/")) {
        volume::unmount(mount).map_err(|e| format!("unmount {}: {e}", mount.display()))?;
    }
    rustix::process::chroot(".").map_err(fail("chroot"))?;
    rustix::process::chdir("/").map_err(fail("enter root"))
}

/// Hides and locks what the process must not see or change; then locks the root, if asked for.
pub fn seal(plan: &ContainerPlan) -> Result<(), String> {
    for path in &plan.readonly_paths {
        make_readonly(path)?;
    }
    for path in &plan.masked_paths {
        mask(path)?;
    }
    if plan.rootfs.readonly {
        let root = open_path("/").map_err(|e| format!("open root: {e}"))?;
        mount::set_attributes(root.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::One)
            .map_err(|e| format!("make root read-only: {e}"))?;
    }
    Ok(())
}

/// Shows the container's terminal as `/dev/console`.
pub fn bind_console() -> Result<(), String> {
    let console = "/dev/console";
    let made = rustix::fs::open(
        console,
        OFlags::CREATE | OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    );
    made.map_err(|e| format!("create {console}: {e}"))?;
    let name = fs::read_link("/proc/self/fd/0").map_err(|e| format!("name of terminal: {e}"))?;
    rustix::mount::mount_bind(&name, console).map_err(|e| format!("bind {console}: {e}"))
}

fn open_path(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn make_readonly(path: &str) -> Result<(), String> {
    let fail = |e: Errno| format!("make {path} read-only: {e}");
    let target = match open_path(path) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    let name = mount::magic_path(target.as_fd());
    let tree = mount::clone_tree(Path::new(&name)).map_err(fail)?;
    mount::set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::One)
        .map_err(fail)?;
    mount::attach(tree.as_fd(), target.as_fd()).map_err(fail)
}

fn mask(path: &str) -> Result<(), String> {
    let fail = |e: Errno| format!("mask {path}: {e}");
    let target = match open_path(path) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    let stat = rustix::fs::fstat(&target).map_err(fail)?;
    let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let options = [("size", Some("0")), ("mode", Some("755"))];
        mount::new_filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_RDONLY)
    } else {
        mount::clone_tree(Path::new("/dev/null"))
    };
    mount::attach(cover.map_err(fail)?.as_fd(), target.as_fd()).map_err(fail)
}
