//! The store's files: blobs by digest, documents replaced as a whole, and what is on its way. A file has its name
//! only once its bytes are on the disk.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::Error;

/// Where things are below the store's root.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Days of an interrupted download after which it is dropped.
const PARTIAL_DAYS: u64 = 1;

// === Disk ===

impl Disk {
    /// Makes the folders and removes what an earlier process left half done.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let disk = Self {
            root: root.to_path_buf(),
        };
        for dir in [
            disk.blob_dir("sha256"),
            disk.layer_dir(),
            disk.ingest_dir(),
            disk.lease_dir(),
        ] {
            std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        }
        use std::os::unix::fs::PermissionsExt;
        // Images may have setuid programs: nobody but root passes this folder. Containers do not go through it.
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(root, closed).map_err(Error::io("set the mode of", root))?;
        disk.clean()?;
        Ok(disk)
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file with the records of all images.
    pub fn records(&self) -> PathBuf {
        self.root.join("images.json")
    }

    /// The folder of unpacked layers.
    pub fn layer_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The folder of what keeps layers although no image has them.
    pub fn lease_dir(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// An unpacked layer. 128 bits of its chain ID are its name: overlayfs' options are short of room.
    pub fn layer(&self, chain: &Digest) -> PathBuf {
        self.layer_dir().join(layer_name(chain))
    }

    /// A blob.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    /// An unfinished download.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.ingest_dir().join(format!("{}.partial", digest.hex()))
    }

    /// A name that nothing has, for something on its way.
    pub fn fresh(&self, what: &str) -> PathBuf {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.ingest_dir()
            .join(format!("{what}-{}-{n}", std::process::id()))
    }

    fn blob_dir(&self, algorithm: &str) -> PathBuf {
        self.root.join("blobs").join(algorithm)
    }

    fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn clean(&self) -> Result<(), Error> {
        let dir = self.ingest_dir();
        for entry in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            let old = std::time::Duration::from_secs(PARTIAL_DAYS * 86_400);
            let partial = path.extension().is_some_and(|e| e == "partial");
            let young = std::fs::metadata(&path)
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|age| age < old));
            if !(partial && young) {
                discard(&path)?;
            }
        }
        Ok(())
    }

    /// Reads a blob and checks its digest.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = self.blob(digest);
        let data = std::fs::read(&path).map_err(Error::io("read", &path))?;
        if !digest.matches(&data) {
            return Err(Error::Mismatch {
                what: path.display().to_string(),
                expected: digest.to_string(),
                found: Digest::of(&data).to_string(),
            });
        }
        Ok(data)
    }

    /// Writes a small blob, unless it is there.
    pub fn write_blob(&self, digest: &Digest, data: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        if path.exists() {
            return Ok(());
        }
        let dir = self.blob_dir(digest.algorithm());
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        self.replace(&path, data, 0o644)
    }

    /// Makes a file's content these bytes, whole or not at all.
    pub fn replace(&self, path: &Path, data: &[u8], mode: u32) -> Result<(), Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let temp = self.fresh("file");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp)
            .map_err(Error::io("create", &temp))?;
        file.write_all(data).map_err(Error::io("write", &temp))?;
        file.sync_all().map_err(Error::io("sync", &temp))?;
        std::fs::rename(&temp, path).map_err(Error::io("rename to", path))?;
        sync_dir(path.parent().unwrap_or(&self.root))
    }

    /// Puts all that was written so far onto the disk.
    pub fn sync(&self) -> Result<(), Error> {
        let dir = std::fs::File::open(&self.root).map_err(Error::io("open", &self.root))?;
        rustix::fs::syncfs(&dir).map_err(|e| Error::io("sync", &self.root)(e.into()))
    }

    /// Moves something out of the way at once; gives where it is now, if it was there.
    pub fn put_aside(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let trash = self.fresh("trash");
        match std::fs::rename(path, &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("remove", path)(e)),
        }
    }

    /// Moves something out of the way at once and removes it.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.put_aside(path)? {
            Some(trash) => discard(&trash),
            None => Ok(()),
        }
    }
}

/// The folder name of an unpacked layer.
pub fn layer_name(chain: &Digest) -> &str {
    &chain.hex()[..32]
}

/// Makes names in a folder durable.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    let file = std::fs::File::open(dir).map_err(Error::io("open", dir))?;
    file.sync_all().map_err(Error::io("sync", dir))
}

/// Removes a file or a folder with all within; nothing is no error.
pub fn discard(path: &Path) -> Result<(), Error> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}
