//! Paths within a root file system that is not trusted: every look-up stays below the root, whatever
//! symbolic links an image holds. openat2(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
}

/// Opens (O_PATH) what `path` names below `root`, following links within it.
pub fn open(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "/" } else { path };
    loop {
        // A rename elsewhere on the machine makes the kernel give up once.
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Opens `path` below `root` and makes what is missing of it.
pub fn ensure(root: BorrowedFd<'_>, path: &str, kind: Kind) -> Result<OwnedFd, Errno> {
    match open(root, path) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if name.is_empty() || name == "." || name == ".." {
        return Err(Errno::INVAL);
    }
    let parent = if parent.is_empty() {
        open(root, "/")?
    } else {
        ensure(root, parent, Kind::Directory)?
    };
    make(parent.as_fd(), name, kind)?;
    open(root, path)
}

fn make(parent: BorrowedFd<'_>, name: &str, kind: Kind) -> Result<(), Errno> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_an_image_never_lead_out_of_its_root() {
        let dir = std::env::temp_dir().join(format!("k0s-paths-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc", dir.join("out")).unwrap();
        let root = std::fs::File::open(&dir).unwrap();
        ensure(root.as_fd(), "/out/a/b", Kind::Directory).unwrap();
        ensure(root.as_fd(), "/out/a/file", Kind::File).unwrap();
        ensure(root.as_fd(), "/out/a/file", Kind::File).unwrap();
        assert!(dir.join("etc/a/b").is_dir());
        assert!(dir.join("etc/a/file").is_file());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
