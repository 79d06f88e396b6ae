//! Folders as archives, and back. What comes from a container is not trusted: nothing is written outside
//! the target, and links are not followed nor made.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Gives what is written to a channel.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(data.to_vec());
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Packs a file or a folder under a name.
pub fn pack(path: &str, inside: &str, send: mpsc::Sender<Vec<u8>>) -> Result<()> {
    let buffered = std::io::BufWriter::with_capacity(crate::limits::READ_BYTES, Pieces(send));
    let mut archive = tar::Builder::new(buffered);
    archive.follow_symlinks(false);
    let packed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => archive.append_dir_all(inside, path),
        Ok(_) => archive.append_path_with_name(path, inside),
        Err(e) => Err(e),
    };
    let finished = packed.and_then(|()| archive.into_inner()?.flush());
    match finished {
        // The other side ended early and says why.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::text(format!("packing {path}: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Unpacks what is below `prefix` of an archive to `target`.
pub fn unpack(mut from: impl Read, prefix: &str, target: &str, hint: &str) -> Result<()> {
    let done = entries(&mut from, prefix, Path::new(target), hint);
    // The other side must be able to write all, or it never ends.
    let drained = std::io::copy(&mut from, &mut std::io::sink());
    done.and(drained.map(|_| ()).map_err(Error::from))
}

fn entries(from: &mut impl Read, prefix: &str, target: &Path, hint: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::text(format!("reading the archive: {e}"));
    let mut hinted = false;
    for entry in tar::Archive::new(from).entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path_bytes().into_owned();
        let Some(rest) = name.strip_prefix(prefix.as_bytes()) else {
            return Err(Error::text("tar contents corrupted"));
        };
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let Some(path) = within(target, Path::new(OsStr::from_bytes(rest))) else {
            eprintln!(
                "warning: file {:?} is outside target destination, skipping",
                target.join(OsStr::from_bytes(rest))
            );
            continue;
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        if kind.is_symlink() || kind.is_hard_link() {
            let link = entry.link_name().map_err(failed)?.unwrap_or_default();
            let hint = match std::mem::replace(&mut hinted, true) {
                true => String::new(),
                false => format!(" (consider using \"{hint}\")"),
            };
            eprintln!("warning: skipping symlink: {path:?} -> {link:?}{hint}");
            continue;
        }
        let mut file = create(&path)?;
        std::io::copy(&mut entry, &mut file)
            .map_err(|e| Error::text(format!("writing {}: {e}", path.display())))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<std::fs::File> {
    std::fs::File::create(path).map_err(|e| {
        let why = crate::error::io_text(&e);
        Error::text(format!("open {}: {why}", path.display()))
    })
}

/// A path below the target; nothing where it would leave it.
fn within(target: &Path, rest: &Path) -> Option<PathBuf> {
    let mut path = target.to_path_buf();
    for part in rest.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, data) in entries {
            let mut header = tar::Header::new_gnu();
            // As a hostile container may: no check of the name.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            archive.append(&header, *data).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn files_land_below_the_target_only() {
        let folder = std::env::temp_dir().join(format!("kubectl-cp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let target = folder.join("out");
        let archive = packed(&[("src/a/b", b"x"), ("src/../../evil", b"y")]);
        unpack(&archive[..], "src", target.to_str().unwrap(), "").unwrap();
        assert_eq!(std::fs::read(target.join("a/b")).unwrap(), b"x");
        assert!(!folder.join("evil").exists() && !folder.join("../evil").exists());
        let other = packed(&[("else", b"x")]);
        let refused = unpack(&other[..], "src", target.to_str().unwrap(), "").unwrap_err();
        assert_eq!(refused.to_string(), "error: tar contents corrupted");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
