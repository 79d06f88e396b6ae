//! Files that snapshots are written to.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Error;

/// A file that was not there before, for its owner only.
pub fn create(path: &Path) -> Result<File, Error> {
    std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| failed(path, &e))
}

/// Makes a written file durable, its name too; gives its size.
pub fn finish(file: &File, path: &Path) -> Result<u64, Error> {
    let done = || -> std::io::Result<u64> {
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(file.metadata()?.len())
    };
    done().map_err(|e| failed(path, &e))
}

/// Takes away a file that could not be finished.
pub fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "unfinished snapshot is left behind");
    }
}

fn failed(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::Backend {
        operation: "snapshot",
        message: format!("{}: {e}", path.display()),
    }
}
