//! Small files: bounded reads, and writes that are whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;
use crate::limits;

/// Mode of files with secrets.
pub const SECRET: u32 = 0o600;
/// Mode of files that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// Reads a file, `None` where there is none.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |source| Error::ReadFile {
        path: path.into(),
        source,
    };
    let file = match File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut text = String::new();
    let max = limits::PEM_FILE_BYTES_MAX;
    file.take(max + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > max {
        return Err(Error::FileTooLong {
            path: path.into(),
            max,
        });
    }
    Ok(Some(text))
}

/// Writes a file through a temporary one beside it, so that a crash leaves the old or the new content.
/// `mode` holds from the first byte on. That the name itself survives a power cut takes `sync_dir`.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    write_inner(path, content, mode).map_err(|source| Error::WriteFile {
        path: path.into(),
        source,
    })
}

fn write_inner(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no file name"))?;
    let mut temp_name = std::ffi::OsString::from(".");
    temp_name.push(name);
    temp_name.push(format!(".{:016x}", rand::random::<u64>()));
    let temp = dir.join(temp_name);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    if result.is_err() {
        // The temporary file may not exist; what failed first is what counts.
        let _ = fs::remove_file(&temp);
    }
    result
}

/// Makes the names of a directory's files durable.
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(|source| Error::WriteFile {
        path: path.into(),
        source,
    })
}

/// Makes a directory (and its parents) with a mode.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Error::WriteFile {
            path: path.into(),
            source,
        })
}
