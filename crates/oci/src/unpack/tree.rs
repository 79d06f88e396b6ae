//! Finds the place of a layer's entry. A path is walked one component at a time from the layer's root, symbolic links
//! are followed as a process within the image would follow them, and what a lower layer has is looked up there, so
//! that nothing can be reached outside. Follows containerd's archive.Apply with parents.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use crate::limits;

/// The mark of a directory that hides those below it.
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// A layer being written, over those below it.
pub struct Tree {
    root: OwnedFd,
    /// Nearest first.
    lowers: Vec<OwnedFd>,
    /// The directory found last: entries come directory by directory.
    last: Option<(Vec<u8>, Place)>,
}

/// A directory of the layer.
pub struct Place {
    pub dir: OwnedFd,
    /// Its path without symbolic links.
    path: Vec<Vec<u8>>,
}

/// What a lower layer has at a path.
enum Below {
    Directory(Stat),
    Link(Vec<u8>),
    File(OwnedFd, Vec<u8>),
    Nothing,
}

const WALK: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

// === Place ===

impl Place {
    /// A directory that is already open.
    pub fn at(dir: OwnedFd, path: Vec<Vec<u8>>) -> Self {
        Self { dir, path }
    }

    /// Its path without symbolic links.
    pub fn path(&self) -> &[Vec<u8>] {
        &self.path
    }
}

// === Tree ===

impl Tree {
    /// A tree over directories that are already there; `lowers` nearest first.
    pub fn new(root: OwnedFd, lowers: Vec<OwnedFd>) -> Self {
        Self {
            root,
            lowers,
            last: None,
        }
    }

    /// The directory at a path, made where it is missing.
    pub fn directory(&mut self, path: &[u8]) -> io::Result<&Place> {
        let known = matches!(&self.last, Some((p, _)) if p == path);
        if !known {
            let place = self.walk(path)?;
            self.last = Some((path.to_vec(), place));
        }
        match &self.last {
            Some((_, place)) => Ok(place),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Forgets the directory found last; after something was removed or replaced.
    pub fn forget(&mut self) {
        self.last = None;
    }

    fn walk(&self, path: &[u8]) -> io::Result<Place> {
        let mut ahead = components(path);
        let mut stack: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == b".." {
                stack.pop();
                continue;
            }
            let here = stack.last().map_or(&self.root, |(_, fd)| fd);
            match fs::openat(here, name.as_slice(), WALK, Mode::empty()) {
                Ok(fd) => {
                    stack.push((name, fd));
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e.into()),
            }
            let names: Vec<Vec<u8>> = stack.iter().map(|(n, _)| n.clone()).collect();
            match self.missing(here, &names, &name)? {
                Below::Link(target) => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        stack.clear();
                    }
                    let mut next = components(&target);
                    next.append(&mut ahead);
                    ahead = next;
                }
                Below::File(..) => return Err(Errno::NOTDIR.into()),
                Below::Directory(stat) => {
                    let fd = make(here, &name, Some(&stat))?;
                    stack.push((name, fd));
                }
                Below::Nothing => {
                    let fd = make(here, &name, None)?;
                    stack.push((name, fd));
                }
            }
        }
        let path = stack.iter().map(|(n, _)| n.clone()).collect();
        let dir = match stack.pop() {
            Some((_, fd)) => fd,
            None => self.root.try_clone()?,
        };
        Ok(Place { dir, path })
    }

    /// What is at `name` where this layer has no directory of that name.
    fn missing(&self, here: &OwnedFd, names: &[Vec<u8>], name: &[u8]) -> io::Result<Below> {
        match fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => {
                fs::unlinkat(here, name, AtFlags::empty())?;
                let fd = make(here, name, None)?;
                set_opaque(&fd)?;
                Ok(Below::Nothing)
            }
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                let target = fs::readlinkat(here, name, Vec::new())?;
                Ok(Below::Link(target.into_bytes()))
            }
            Ok(_) => Err(Errno::NOTDIR.into()),
            Err(Errno::NOENT) => self.below(names, name),
            Err(e) => Err(e.into()),
        }
    }

    /// What the layers below have at `names/name`.
    fn below(&self, names: &[Vec<u8>], name: &[u8]) -> io::Result<Below> {
        for lower in &self.lowers {
            let mut dir = lower.try_clone()?;
            let mut hidden = false;
            let mut absent = false;
            for part in names {
                match fs::openat(&dir, part.as_slice(), WALK, Mode::empty()) {
                    Ok(next) => {
                        hidden |= is_opaque(&next);
                        dir = next;
                    }
                    Err(Errno::NOENT) => {
                        absent = true;
                        break;
                    }
                    // A file, a link or a whiteout hides what is further down.
                    Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Below::Nothing),
                    Err(e) => return Err(e.into()),
                }
            }
            if !absent {
                match found(dir, name)? {
                    Some(below) => return Ok(below),
                    None if hidden => return Ok(Below::Nothing),
                    None => {}
                }
            }
            if hidden {
                return Ok(Below::Nothing);
            }
        }
        Ok(Below::Nothing)
    }

    /// Opens the regular file that a layer below has at a path; `None` where it has none.
    pub fn lower_file(&self, place: &Place, name: &[u8]) -> io::Result<Option<OwnedFd>> {
        match self.below(&place.path, name)? {
            Below::File(dir, name) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let fd = fs::openat(&dir, name, flags, Mode::empty())?;
                let stat = fs::fstat(&fd)?;
                let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                Ok(regular.then_some(fd))
            }
            _ => Ok(None),
        }
    }
}

fn found(dir: OwnedFd, name: &[u8]) -> io::Result<Option<Below>> {
    let stat = match fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if is_whiteout(&stat) {
        return Ok(Some(Below::Nothing));
    }
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Below::Directory(stat),
        FileType::Symlink => Below::Link(fs::readlinkat(&dir, name, Vec::new())?.into_bytes()),
        _ => Below::File(dir, name.to_vec()),
    }))
}

/// Makes a directory like the one below it, and opens it.
fn make(parent: &OwnedFd, name: &[u8], like: Option<&Stat>) -> io::Result<OwnedFd> {
    match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let fd = fs::openat(parent, name, WALK, Mode::empty())?;
    let Some(stat) = like else {
        // Whatever the umask.
        fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        return Ok(fd);
    };
    let owner = (
        rustix::fs::Uid::from_raw(stat.st_uid),
        rustix::fs::Gid::from_raw(stat.st_gid),
    );
    fs::fchown(&fd, Some(owner.0), Some(owner.1))?;
    fs::fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(fd)
}

/// The components of a path from the root; `.` and empty ones left out.
pub fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Whether this is a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::CharacterDevice
        && stat.st_rdev == 0
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    matches!(fs::fgetxattr(dir, OPAQUE, &mut value), Ok(1)) && value[0] == b'y'
}

/// Marks a directory as hiding those below it.
pub fn set_opaque(dir: impl AsFd) -> io::Result<()> {
    Ok(fs::fsetxattr(dir, OPAQUE, b"y", fs::XattrFlags::empty())?)
}
