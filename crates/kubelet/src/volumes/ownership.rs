//! fsGroup: the group owns what is in a volume. Upstream: pkg/volume/volume_linux.go.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

/// Gives a volume to a group, recursively. With policy `OnRootMismatch` a fitting root is enough.
pub fn apply(root: &Path, group: u32, read_only: bool, policy: Option<&str>) -> Result<(), String> {
    let wrap = |e: io::Error| format!("applyFSGroup failed for {}: {e}", root.display());
    if policy == Some("OnRootMismatch") && fits(root, group, read_only).map_err(wrap)? {
        return Ok(());
    }
    walk(root, group, read_only).map_err(wrap)
}

fn masks(read_only: bool) -> (u32, u32) {
    // Of files; of directories.
    if read_only {
        (0o440, 0o2550)
    } else {
        (0o660, 0o2770)
    }
}

fn fits(root: &Path, group: u32, read_only: bool) -> io::Result<bool> {
    let meta = fs::symlink_metadata(root)?;
    let mask = masks(read_only).1;
    Ok(meta.gid() == group && meta.mode() & mask == mask)
}

fn walk(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.file_type().is_symlink() {
        return lchown(path, None, Some(group));
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group, read_only)?;
        }
    }
    chown(path, None, Some(group))?;
    let (file, dir) = masks(read_only);
    let mask = if meta.is_dir() { dir } else { file };
    let mode = (meta.mode() & 0o7777) | mask;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
