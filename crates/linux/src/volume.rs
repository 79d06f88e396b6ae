//! What volumes need of the kernel: tmpfs and bind mounts, paths that cannot leave their root, use of a
//! filesystem. Upstream: k8s.io/mount-utils, pkg/volume/util/subpath.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount as sys_unmount};

/// Space and inodes of a filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity: u64,
    pub available: u64,
    pub used: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Mounts a tmpfs with options such as `size=1024`.
pub fn mount_tmpfs(path: &Path, options: &str) -> io::Result<()> {
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?)
}

/// Makes what is at `source` appear at `target` too.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount_bind(source, target)?)
}

/// Binds an open file or directory, wherever its path leads by now.
pub fn bind_fd(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", source.as_raw_fd());
    Ok(mount_bind(path.as_str(), target)?)
}

/// Unmounts, even while in use. Nothing mounted there is success.
pub fn unmount(path: &Path) -> io::Result<()> {
    match sys_unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Mount points at or below a directory, deepest first.
pub fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // The kernel knows no links in the paths of its mounts.
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let text = std::fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(unescape)
        .filter(|p| p.starts_with(&real))
        .collect();
    found.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
    Ok(found)
}

/// Whether the root is its namespace's bottom, as in an initramfs: its own parent, which `pivot_root` refuses.
pub fn root_is_bottom() -> io::Result<bool> {
    Ok(bottom_in(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

fn bottom_in(table: &str) -> bool {
    table.lines().any(|line| {
        let mut words = line.split(' ');
        let (id, parent, at) = (words.next(), words.next(), words.nth(2));
        at == Some("/") && id == parent
    })
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    Ok(mounts_below(path)?.contains(&real))
}

/// The kernel writes blanks and the like as octal.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let byte = octal.and_then(|d| u8::from_str_radix(d, 8).ok());
        match byte.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&out))
}

/// Opens a path without ever leaving `root`: links out of it fail.
pub fn open_beneath(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let base = open_dir(root)?;
    beneath(&base, path, OFlags::PATH)
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn beneath(base: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(base, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    Ok(fd)
}

/// Makes missing directories of a path without leaving `root`; existing ones are left as they are.
pub fn make_dirs_beneath(root: &Path, path: &Path, mode: u32) -> io::Result<()> {
    let base = open_dir(root)?;
    let mut at = PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        let parent = beneath(&base, &at, OFlags::PATH | OFlags::DIRECTORY)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(mode & 0o777)) {
            Ok(()) => {
                // The umask does not apply to volumes.
                let made = beneath(&parent, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777))?;
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at.push(name);
    }
    Ok(())
}

/// Use of the filesystem that holds a path.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let s = statvfs(path)?;
    Ok(Usage {
        capacity: s.f_blocks * s.f_frsize,
        available: s.f_bavail * s.f_frsize,
        used: s.f_blocks.saturating_sub(s.f_bfree) * s.f_frsize,
        inodes: s.f_files,
        inodes_free: s.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_root_are_refused() {
        let dir = std::env::temp_dir().join(format!("k0s-volume-{}", std::process::id()));
        let root = dir.join("root");
        std::fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("abs")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("up")).unwrap();
        make_dirs_beneath(&root, Path::new("a/b"), 0o750).unwrap();
        std::os::unix::fs::symlink("a", root.join("in")).unwrap();
        assert!(open_beneath(&root, Path::new("a/b")).is_ok());
        assert!(open_beneath(&root, Path::new("in/b")).is_ok());
        for bad in ["abs", "up", "abs/passwd"] {
            assert!(open_beneath(&root, Path::new(bad)).is_err(), "{bad}");
            assert!(make_dirs_beneath(&root, &Path::new(bad).join("x"), 0o755).is_err());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn mountinfo_paths_are_unescaped() {
        assert_eq!(unescape(b"/a\\040b\\134c"), PathBuf::from("/a b\\c"));
    }

    #[test]
    fn the_kernels_own_root_is_its_own_parent() {
        let proc = "20 1 0:21 / /proc rw - proc proc rw\n";
        assert!(bottom_in(&format!(
            "1 1 0:2 / / rw - rootfs rootfs rw\n{proc}"
        )));
        assert!(!bottom_in(&format!(
            "30 1 8:1 / / rw shared:1 - ext4 /dev/vda rw\n{proc}"
        )));
    }

    #[test]
    fn the_root_filesystem_has_space() {
        assert!(usage(Path::new("/")).unwrap().capacity > 0);
        assert!(is_mount_point(Path::new("/proc")).unwrap());
    }
}
