//! subPath: one path of a volume, bound so that links cannot lead out of it.
//! Upstream: pkg/volume/util/subpath.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Refuses sub paths that are absolute or climb.
pub fn validate(sub_path: &str) -> Result<(), String> {
    if sub_path.starts_with('/') {
        return Err(format!(
            "error SubPath `{sub_path}` must not be an absolute path"
        ));
    }
    let climbs = Path::new(sub_path)
        .components()
        .any(|c| matches!(c, Component::ParentDir));
    if climbs {
        return Err(format!(
            "unable to provision SubPath `{sub_path}`: must not contain '..'"
        ));
    }
    Ok(())
}

/// Makes the sub path where it is missing, and binds it at `target`. Gives the path to mount.
pub fn prepare(
    volume: &Path,
    sub_path: &str,
    read_only: bool,
    target: &Path,
) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    let mut source = linux::volume::open_beneath(volume, relative);
    if source.is_err() && !read_only {
        let mode = std::fs::metadata(volume).map_or(0o755, |m| m.permissions().mode());
        linux::volume::make_dirs_beneath(volume, relative, mode)
            .map_err(|e| format!("failed to create subPath directory: {e}"))?;
        source = linux::volume::open_beneath(volume, relative);
    }
    let source = source.map_err(|e| format!("failed to prepare subPath {sub_path:?}: {e}"))?;
    let fail = |e: std::io::Error| format!("failed to bind subPath {sub_path:?}: {e}");
    // A restart binds anew: the path may lead elsewhere by now.
    linux::volume::unmount(target).map_err(fail)?;
    let is_dir = std::fs::metadata(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&source)
    ))
    .map_err(fail)?
    .is_dir();
    make_target(target, is_dir).map_err(fail)?;
    linux::volume::bind_fd(&source, target).map_err(fail)?;
    Ok(target.to_path_buf())
}

fn make_target(target: &Path, is_dir: bool) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == is_dir => return Ok(()),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir(target)?,
        Ok(_) => std::fs::remove_file(target)?,
        Err(_) => {}
    }
    if is_dir {
        std::fs::create_dir(target)
    } else {
        std::fs::File::create(target).map(|_| ())
    }
}
