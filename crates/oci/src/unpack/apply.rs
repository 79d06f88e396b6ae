//! Writes the entries of a layer.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tar::EntryType;

use super::tape::{Member, Stream, Tape};
use super::tree::{self, Tree};
use crate::limits;

/// What a layer takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub bytes: u64,
    pub entries: u64,
}

/// A directory whose times are set when nothing is written into it any more.
struct Pending {
    path: Vec<Vec<u8>>,
    mtime: (i64, u32),
}

struct Apply {
    tree: Tree,
    root: OwnedFd,
    pending: Vec<Pending>,
    unpacked: Unpacked,
}

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Zeros of this many bytes become holes.
const HOLE: usize = 64 << 10;

/// Writes all entries of the tar `stream` below `to`.
pub fn apply(stream: impl Read, lowers: &[PathBuf], to: &Path) -> io::Result<Unpacked> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::open(path, flags, Mode::empty())
    };
    let root = open(to)?;
    let lowers = lowers.iter().map(|l| open(l)).collect::<Result<_, _>>()?;
    let mut apply = Apply {
        tree: Tree::new(root.try_clone()?, lowers),
        root,
        pending: Vec::new(),
        unpacked: Unpacked::default(),
    };
    let mut tape = Tape::new(Stream(stream));
    while let Some(member) = tape.advance()? {
        apply.unpacked.entries += 1;
        if apply.unpacked.entries > limits::LAYER_ENTRIES {
            return Err(io::Error::other("more entries than the limit"));
        }
        apply.entry(&member, &mut tape).map_err(|e| {
            let path = String::from_utf8_lossy(&member.path).into_owned();
            io::Error::new(e.kind(), format!("{path}: {e}"))
        })?;
    }
    apply.times()?;
    Ok(apply.unpacked)
}

// === Apply ===

impl Apply {
    fn entry(&mut self, member: &Member, data: &mut impl Read) -> io::Result<()> {
        let parts = lexical(&member.path)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.root_entry(member);
        };
        let parent = parents.join(&b'/');
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&parent, name, hidden);
        }
        self.make_way(&parent, name, member)?;
        match member.kind {
            EntryType::Directory => self.directory(&parent, name, member),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&parent, name, member, data)
            }
            EntryType::Link => self.link(&parent, name, member),
            EntryType::Symlink => {
                let dir = &self.tree.directory(&parent)?.dir;
                fs::symlinkat(member.link.as_slice(), dir, name.as_slice())?;
                finish(dir, name, member)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let dir = &self.tree.directory(&parent)?.dir;
                let kind = match member.kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = fs::makedev(member.device.0, member.device.1);
                fs::mknodat(
                    dir,
                    name.as_slice(),
                    kind,
                    Mode::from_raw_mode(member.mode),
                    device,
                )?;
                finish(dir, name, member)?;
                mode(dir, name, member.mode)
            }
            other => Err(io::Error::other(format!(
                "unhandled tar header type {}",
                other.as_byte()
            ))),
        }
    }

    /// The image's `/` itself.
    fn root_entry(&mut self, member: &Member) -> io::Result<()> {
        if member.kind != EntryType::Directory {
            return Err(io::Error::other("the root of a layer must be a directory"));
        }
        attributes(&self.root, member)?;
        self.pending.push(Pending {
            path: Vec::new(),
            mtime: member.mtime,
        });
        Ok(())
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8], hidden: &[u8]) -> io::Result<()> {
        if name == WHITEOUT_OPAQUE {
            return tree::set_opaque(&self.tree.directory(parent)?.dir);
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(io::Error::other("invalid whiteout name"));
        }
        let dir = &self.tree.directory(parent)?.dir;
        let none = fs::makedev(0, 0);
        match fs::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), none) {
            Ok(()) => Ok(()),
            // The layer has something of that name itself: only what is below is hidden.
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match fs::openat(dir, hidden, flags, Mode::empty()) {
                    Ok(fd) => tree::set_opaque(&fd),
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Removes what an earlier entry of the layer left at this place, but for a directory that stays one.
    fn make_way(&mut self, parent: &[u8], name: &[u8], member: &Member) -> io::Result<()> {
        let dir = &self.tree.directory(parent)?.dir;
        let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let becomes_dir = member.kind == EntryType::Directory;
        match (is_dir, becomes_dir) {
            (true, true) => return Ok(()),
            (true, false) => remove_tree(dir, name)?,
            (false, _) => fs::unlinkat(dir, name, AtFlags::empty())?,
        }
        if becomes_dir && tree::is_whiteout(&stat) {
            // What is below stays hidden.
            fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            tree::set_opaque(fs::openat(dir, name, flags, Mode::empty())?)?;
        }
        self.tree.forget();
        Ok(())
    }

    fn directory(&mut self, parent: &[u8], name: &[u8], member: &Member) -> io::Result<()> {
        let place = self.tree.directory(parent)?;
        match fs::mkdirat(&place.dir, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&place.dir, name, flags, Mode::empty())?;
        attributes(&fd, member)?;
        let mut path = place.path().to_vec();
        path.push(name.to_vec());
        self.pending.push(Pending {
            path,
            mtime: member.mtime,
        });
        Ok(())
    }

    fn file(
        &mut self,
        parent: &[u8],
        name: &[u8],
        member: &Member,
        data: &mut impl Read,
    ) -> io::Result<()> {
        self.unpacked.bytes = self.unpacked.bytes.saturating_add(member.stored);
        if member.size > limits::LAYER_BYTES || self.unpacked.bytes > limits::LAYER_BYTES {
            return Err(io::Error::other("the layer unpacks to more than the limit"));
        }
        let dir = &self.tree.directory(parent)?.dir;
        let mut file = std::fs::File::from(create(dir, name)?);
        match &member.pieces {
            None => copy(data, &mut file, member.size)?,
            Some(pieces) => {
                for (offset, length) in pieces {
                    file.seek(SeekFrom::Start(*offset))?;
                    copy(data, &mut file, *length)?;
                }
                file.set_len(member.size)?;
            }
        }
        attributes(&file, member)?;
        fs::futimens(&file, &times(member.mtime))?;
        Ok(())
    }

    /// A hard link to an entry of this layer, or to a file of a lower one, which is copied up for it.
    fn link(&mut self, parent: &[u8], name: &[u8], member: &Member) -> io::Result<()> {
        let target = lexical(&member.link)?;
        let Some((target_name, target_parents)) = target.split_last() else {
            return Err(io::Error::other("a hard link to the root"));
        };
        let target_dir = self
            .tree
            .directory(&target_parents.join(&b'/'))?
            .dir
            .try_clone()?;
        let dir = self.tree.directory(parent)?.dir.try_clone()?;
        let same = AtFlags::empty();
        match fs::linkat(&target_dir, target_name.as_slice(), &dir, name, same) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        let place = self.tree.directory(&target_parents.join(&b'/'))?;
        let place = tree::Place::at(target_dir.try_clone()?, place.path().to_vec());
        let lower = self.tree.lower_file(&place, target_name)?;
        let lower = lower.ok_or_else(|| {
            let text = String::from_utf8_lossy(&member.link).into_owned();
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("hard link to {text}: no such file"),
            )
        })?;
        copy_up(lower, &target_dir, target_name)?;
        fs::linkat(&target_dir, target_name.as_slice(), &dir, name, same)?;
        Ok(())
    }

    /// Sets the times of directories, innermost first.
    fn times(&mut self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for pending in self.pending.iter().rev() {
            let mut dir = self.root.try_clone()?;
            let mut there = true;
            for part in &pending.path {
                match fs::openat(&dir, part.as_slice(), flags, Mode::empty()) {
                    Ok(next) => dir = next,
                    // A later entry replaced it.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                        there = false;
                        break;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
            if there {
                fs::futimens(&dir, &times(pending.mtime))?;
            }
        }
        Ok(())
    }
}

/// The components of an entry's path, `..` resolved within the root as containerd's path cleaning does.
fn lexical(path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if path.contains(&0) {
        return Err(io::Error::other("a path with a zero byte"));
    }
    let mut out = Vec::new();
    for part in tree::components(path) {
        if part == b".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    Ok(out)
}

fn create(dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?)
}

/// Copies `length` bytes; long runs of zeros become holes.
fn copy(data: &mut impl Read, file: &mut std::fs::File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0u8; HOLE];
    let mut left = length;
    let mut hole = false;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(HOLE).min(HOLE);
        data.read_exact(&mut buffer[..want])?;
        left -= want as u64;
        hole = want == HOLE && buffer.iter().all(|b| *b == 0);
        if hole {
            file.seek(SeekFrom::Current(want as i64))?;
        } else {
            file.write_all(&buffer[..want])?;
        }
    }
    if hole {
        let end = file.stream_position()?;
        file.set_len(end)?;
    }
    Ok(())
}

fn copy_up(lower: OwnedFd, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let stat = fs::fstat(&lower)?;
    let mut to = std::fs::File::from(create(dir, name)?);
    io::copy(&mut std::fs::File::from(lower), &mut to)?;
    fs::fchown(
        &to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    fs::futimens(&to, &times((stat.st_mtime, stat.st_mtime_nsec as u32)))?;
    Ok(())
}

/// Owner, mode and attributes of what is open. The mode comes after the owner, which clears setuid.
fn attributes(fd: impl AsFd, member: &Member) -> io::Result<()> {
    let fd = fd.as_fd();
    fs::fchown(
        fd,
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
    )?;
    fs::fchmod(fd, Mode::from_raw_mode(member.mode))?;
    for (name, value) in allowed(member) {
        tolerate(fs::fsetxattr(fd, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// Owner, attributes and times of what cannot be opened: links, devices, pipes.
fn finish(dir: &OwnedFd, name: &[u8], member: &Member) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    fs::chownat(
        dir,
        name,
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
        flags,
    )?;
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    for (attribute, value) in allowed(member) {
        tolerate(fs::lsetxattr(
            path.as_slice(),
            attribute,
            value,
            XattrFlags::empty(),
        ))?;
    }
    fs::utimensat(dir, name, &times(member.mtime), flags)?;
    Ok(())
}

/// The mode of a device or pipe just made, which is no symbolic link.
fn mode(dir: &OwnedFd, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(fs::chmodat(
        dir,
        name,
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )?)
}

/// The attributes an image may set. Those of overlayfs would let a layer show files from elsewhere.
fn allowed(member: &Member) -> impl Iterator<Item = (&[u8], &[u8])> {
    member
        .xattrs
        .iter()
        .filter(|(name, _)| {
            !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        })
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
}

/// A file system without such attributes, or a user that may not set them, is no error (containerd warns).
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOTSUP) => Ok(()),
        other => Ok(other?),
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Removes a directory of this layer with all within.
pub fn remove_tree(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = fs::openat(dir, name, flags, Mode::empty())?;
    for entry in fs::Dir::read_from(&inner)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if matches!(child, b"." | b"..") {
            continue;
        }
        match fs::unlinkat(&inner, child, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(&inner, child)?,
            Err(e) => return Err(e.into()),
        }
    }
    fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    Ok(())
}
