//! The images of a node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use parking_lot::{Mutex, RwLock};

use crate::digest::Digest;
use crate::disk::{Disk, discard, layer_name};
use crate::error::Error;
use crate::manifest::{Descriptor, chain_ids};
use crate::records::{LayerRecord, Record, Records};
use crate::registry::RegistryOptions;
use crate::unpack::{Layer, unpack};

/// How a store works.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Registries, mirrors and certificates.
    pub registry: RegistryOptions,
}

/// Images by name: their blobs, and their layers unpacked. Clones share one store.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub disk: Disk,
    pub registry: RegistryOptions,
    records: RwLock<Records>,
    /// Layers that an import or pull under way has or will have.
    protected: Mutex<BTreeMap<Digest, usize>>,
    /// One unpack of a layer at a time.
    unpacking: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    /// One pull of a reference at a time.
    pub pulling: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Why layers cannot be unpacked here, if so.
    unsuitable: Option<String>,
}

/// An image ready to run.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// `sha256:…` of the config.
    pub id: String,
    /// `domain/path@sha256:…`, what a container's status shows as imageID; the id where there is no name.
    pub digest_reference: String,
    pub config: ImageConfiguration,
    /// Unpacked, bottom first, ready as overlayfs' lower directories.
    pub layers: Vec<PathBuf>,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    pub id: String,
    /// Digest that the names lead to.
    pub target: String,
    /// What is there: the media type of a manifest or an index.
    pub media_type: String,
    /// `os/architecture` of what is here.
    pub platform: String,
    /// `domain/path:tag`, sorted.
    pub names: Vec<String>,
    /// `domain/path@digest`, sorted.
    pub digests: Vec<String>,
    /// Bytes of manifest, config and packed layers.
    pub size: u64,
    /// The config's user.
    pub user: String,
    pub pinned: bool,
    /// RFC 3339.
    pub created: String,
}

/// What the unpacked layers take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// An image that is about to come into the store.
pub(crate) struct Arriving {
    pub target: Digest,
    /// An index around the manifest.
    pub index: Option<Vec<u8>>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Descriptor>,
    pub names: BTreeSet<String>,
    pub digests: BTreeSet<String>,
    pub pinned: bool,
}

/// The layers of an image that is about to come.
pub(crate) struct LayerPlan {
    pub blob: Descriptor,
    pub diff_id: Digest,
    pub chain: Digest,
}

/// Keeps layers from being removed while it lives.
pub(crate) struct Protection {
    store: Arc<Inner>,
    chains: Vec<Digest>,
}

// === ImageStore ===

impl ImageStore {
    /// Opens the store in a folder of its own, and puts right what a crash left.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self, Error> {
        let disk = Disk::open(root)?;
        let path = disk.records();
        let mut records: Records = match std::fs::read(&path) {
            Ok(data) => serde_json::from_slice(&data)
                .map_err(|e| Error::malformed(path.display().to_string(), e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        reconcile(&disk, &mut records)?;
        let unsuitable = unsuitable(&disk);
        if let Some(reason) = &unsuitable {
            tracing::warn!(root = %root.display(), %reason, "images cannot be unpacked here");
        }
        let inner = Inner {
            registry: options.registry,
            disk,
            records: RwLock::new(records),
            protected: Mutex::default(),
            unpacking: Mutex::default(),
            pulling: Mutex::default(),
            unsuitable,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.inner.sweep()?;
        Ok(store)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.inner.disk.root()
    }

    /// By reference, id (`sha256:…`) or beginning of an id; `None` where it is not present.
    pub fn resolve(&self, image: &str) -> Option<ResolvedImage> {
        let record = self.inner.records.read().find(image)?.clone();
        let config = match self.inner.config(&record.id) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(image, %error, "an image's config cannot be read");
                return None;
            }
        };
        Some(ResolvedImage {
            digest_reference: digest_reference(&record, image),
            id: record.id.to_string(),
            config,
            layers: record
                .layers
                .iter()
                .map(|c| self.inner.disk.layer(c))
                .collect(),
        })
    }

    /// All images.
    pub fn list(&self) -> Vec<StoredImage> {
        self.inner
            .records
            .read()
            .images
            .values()
            .map(stored)
            .collect()
    }

    /// One image by reference, id or beginning of an id.
    pub fn get(&self, image: &str) -> Option<StoredImage> {
        self.inner.records.read().find(image).map(stored)
    }

    /// Removes an image with all its names. No image is no error. Layers that a lease keeps stay until its release.
    pub async fn remove(&self, image: &str) -> Result<(), Error> {
        let image = image.to_string();
        self.blocking("remove an image", move |inner| {
            inner.change(|records| {
                if let Some(id) = records.find(&image).map(|r| r.id.clone()) {
                    records.images.remove(&id);
                }
                Ok(())
            })?;
            inner.sweep()
        })
        .await
    }

    /// Takes one name from its image, and removes the image with its last name.
    pub async fn untag(&self, name: &str) -> Result<(), Error> {
        let name = name.to_string();
        self.blocking("remove a name", move |inner| {
            inner.change(|records| {
                let id = records
                    .images
                    .values()
                    .find(|r| r.names.contains(&name) || r.digests.contains(&name))
                    .map(|r| r.id.clone())
                    .ok_or_else(|| Error::NotFound(format!("image {name:?}")))?;
                if let Some(record) = records.images.get_mut(&id) {
                    record.names.remove(&name);
                    record.digests.remove(&name);
                    if record.names.is_empty() {
                        records.images.remove(&id);
                    }
                }
                Ok(())
            })?;
            inner.sweep()
        })
        .await
    }

    /// Gives an image that is here a further name.
    pub async fn tag(&self, image: &str, reference: &str) -> Result<(), Error> {
        let name = crate::reference::Reference::parse(reference)?;
        let image = image.to_string();
        self.blocking("name an image", move |inner| {
            inner.change(|records| {
                let mut record = records
                    .find(&image)
                    .cloned()
                    .ok_or_else(|| Error::NotFound(format!("image {image:?}")))?;
                record.names.extend(name.tagged());
                record.digests.insert(name.with_digest(&record.target));
                records.insert(record)
            })
        })
        .await
    }

    /// What unpacked layers take.
    pub fn usage(&self) -> Usage {
        let records = self.inner.records.read();
        records
            .layers
            .values()
            .fold(Usage::default(), |sum, layer| Usage {
                bytes: sum.bytes + layer.bytes,
                inodes: sum.inodes + layer.entries,
            })
    }

    /// Keeps an image's layers for `owner` (a container) even when the image is removed, across restarts, until
    /// [`ImageStore::release`]. `owner` is a file name.
    pub fn lease(&self, owner: &str, image: &ResolvedImage) -> Result<(), Error> {
        let path = self.inner.lease_path(owner)?;
        let names: Vec<String> = image
            .layers
            .iter()
            .filter_map(|l| l.file_name()?.to_str().map(str::to_string))
            .collect();
        // Nothing is removed meanwhile.
        let _records = self.inner.records.read();
        std::fs::write(&path, names.join("\n")).map_err(Error::io("write", &path))?;
        // The image may have been removed since it was resolved.
        match image.layers.iter().find(|l| !l.exists()) {
            None => Ok(()),
            Some(_) => {
                discard(&path)?;
                Err(Error::NotFound(format!("image {}", image.id)))
            }
        }
    }

    /// Ends what [`ImageStore::lease`] began. Idempotent.
    pub fn release(&self, owner: &str) -> Result<(), Error> {
        let path = self.inner.lease_path(owner)?;
        if !path.exists() {
            return Ok(());
        }
        discard(&path)?;
        self.inner.sweep()
    }

    /// Runs what touches the disk off the runtime's threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|_| Error::Crashed(what))?
    }
}

// === Inner ===

impl Inner {
    /// The records as they are.
    pub fn read<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        look(&self.records.read())
    }

    /// Changes the records, on the disk first.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Records) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut records = self.records.write();
        let mut next = records.clone();
        let out = change(&mut next)?;
        let data = serde_json::to_vec(&next).map_err(|e| Error::malformed("records", e))?;
        self.disk.replace(&self.disk.records(), &data, 0o600)?;
        *records = next;
        Ok(out)
    }

    fn config(&self, id: &Digest) -> Result<ImageConfiguration, Error> {
        parse_config(id, &self.disk.read_blob(id)?)
    }

    fn lease_path(&self, owner: &str) -> Result<PathBuf, Error> {
        if owner.is_empty() || owner.starts_with('.') || owner.contains(['/', '\0']) {
            return Err(Error::malformed("the owner of a lease", "not a file name"));
        }
        Ok(self.disk.lease_dir().join(owner))
    }

    /// Keeps layers from being removed.
    pub fn protect(self: &Arc<Self>, plan: &[LayerPlan]) -> Protection {
        let mut chains: Vec<Digest> = plan.iter().map(|l| l.chain.clone()).collect();
        // Blobs are safe while anything is protected, even an image without layers.
        chains.push(Digest::of(&[]));
        let mut protected = self.protected.lock();
        for chain in &chains {
            *protected.entry(chain.clone()).or_default() += 1;
        }
        Protection {
            store: self.clone(),
            chains,
        }
    }

    /// Whether a layer is unpacked.
    pub fn has_layer(&self, chain: &Digest) -> bool {
        self.records.read().layers.contains_key(chain)
    }

    /// Unpacks a layer unless it is there; `open` gives its packed bytes. Those below must be there.
    pub fn ensure_layer(
        &self,
        plan: &[LayerPlan],
        at: usize,
        open: impl FnOnce() -> Result<Box<dyn std::io::Read>, Error>,
    ) -> Result<(), Error> {
        let layer = &plan[at];
        let gate = self
            .unpacking
            .lock()
            .entry(layer.chain.clone())
            .or_default()
            .clone();
        let result = {
            let _turn = gate.lock();
            if self.has_layer(&layer.chain) {
                Ok(())
            } else {
                self.unpack_layer(plan, at, open)
            }
        };
        self.unpacking
            .lock()
            .retain(|_, gate| Arc::strong_count(gate) > 1);
        result
    }

    fn unpack_layer(
        &self,
        plan: &[LayerPlan],
        at: usize,
        open: impl FnOnce() -> Result<Box<dyn std::io::Read>, Error>,
    ) -> Result<(), Error> {
        let layer = &plan[at];
        if let Some(cause) = &self.unsuitable {
            return Err(Error::Extract {
                layer: layer.blob.digest.to_string(),
                cause: cause.clone(),
            });
        }
        let lowers: Vec<PathBuf> = plan[..at]
            .iter()
            .rev()
            .map(|l| self.disk.layer(&l.chain))
            .collect();
        let temp = self.disk.fresh("layer");
        std::fs::create_dir(&temp).map_err(Error::io("make", &temp))?;
        // Whatever the umask: other users walk through a container's root.
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&temp, open_to_all)
            .map_err(Error::io("set the mode of", &temp))?;
        let described = Layer {
            blob: &layer.blob.digest,
            diff_id: &layer.diff_id,
            lowers: &lowers,
        };
        let unpacked = open().and_then(|packed| unpack(packed, &described, &temp));
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                if let Err(left) = discard(&temp) {
                    tracing::warn!(error = %left, "a half unpacked layer could not be removed");
                }
                return Err(error);
            }
        };
        let path = self.disk.layer(&layer.chain);
        let mut records = self.records.write();
        // Rests of a layer that was being removed when the process ended.
        self.disk.remove(&path)?;
        std::fs::rename(&temp, &path).map_err(Error::io("rename to", &path))?;
        records.layers.insert(
            layer.chain.clone(),
            LayerRecord {
                bytes: unpacked.bytes,
                entries: unpacked.entries,
            },
        );
        Ok(())
    }

    /// Makes an image whose layers are all there one of the store's. Gives its id.
    pub fn commit(&self, image: Arriving, plan: &[LayerPlan]) -> Result<Digest, Error> {
        let id = Digest::of(&image.config);
        let manifest = Digest::of(&image.manifest);
        let config = parse_config(&id, &image.config)?;
        self.disk.sync()?;
        self.disk.write_blob(&id, &image.config)?;
        self.disk.write_blob(&manifest, &image.manifest)?;
        if let Some(index) = &image.index {
            self.disk.write_blob(&image.target, index)?;
        }
        let layers: u64 = image.layers.iter().map(|l| l.size).sum();
        let record = Record {
            id: id.clone(),
            manifest,
            target: image.target,
            names: image.names,
            digests: image.digests,
            layers: plan.iter().map(|l| l.chain.clone()).collect(),
            size: layers + (image.config.len() + image.manifest.len()) as u64,
            user: config
                .config()
                .as_ref()
                .and_then(|c| c.user().clone())
                .unwrap_or_default(),
            pinned: image.pinned,
            platform: format!("{}/{}", config.os(), config.architecture()),
            created: jiff::Timestamp::now().to_string(),
        };
        self.change(|records| records.insert(record))?;
        Ok(id)
    }

    /// Removes layers and blobs that no image, lease or work under way has.
    pub fn sweep(&self) -> Result<(), Error> {
        let (trash, blobs) = {
            // Under this lock nothing becomes protected or known.
            let protected = self.protected.lock();
            let mut records = self.records.write();
            let leased = self.leased()?;
            let used: BTreeSet<Digest> = records.used_layers().into_iter().cloned().collect();
            let unused: Vec<Digest> = records
                .layers
                .keys()
                .filter(|c| {
                    !used.contains(*c)
                        && !protected.contains_key(*c)
                        && !leased.contains(layer_name(c))
                })
                .cloned()
                .collect();
            let mut trash = Vec::new();
            for chain in &unused {
                records.layers.remove(chain);
                trash.extend(self.disk.put_aside(&self.disk.layer(chain))?);
            }
            let blobs = if protected.is_empty() {
                self.unused_blobs(&records)?
            } else {
                Vec::new()
            };
            (trash, blobs)
        };
        for path in trash.iter().chain(&blobs) {
            discard(path)?;
        }
        Ok(())
    }

    fn unused_blobs(&self, records: &Records) -> Result<Vec<PathBuf>, Error> {
        let used: BTreeSet<PathBuf> = records
            .used_blobs()
            .into_iter()
            .map(|d| self.disk.blob(d))
            .collect();
        let mut unused = Vec::new();
        let root = self.disk.root().join("blobs");
        for algorithm in std::fs::read_dir(&root).map_err(Error::io("list", &root))? {
            let dir = algorithm.map_err(Error::io("list", &root))?.path();
            for blob in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
                let path = blob.map_err(Error::io("list", &dir))?.path();
                if !used.contains(&path) {
                    unused.push(path);
                }
            }
        }
        Ok(unused)
    }

    /// Folder names of layers that leases keep.
    fn leased(&self) -> Result<BTreeSet<String>, Error> {
        let dir = self.disk.lease_dir();
        let mut names = BTreeSet::new();
        for lease in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = lease.map_err(Error::io("list", &dir))?.path();
            match std::fs::read_to_string(&path) {
                Ok(text) => names.extend(text.lines().map(str::to_string)),
                // Released meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("read", &path)(e)),
            }
        }
        Ok(names)
    }
}

/// The layers of an image: its manifest and config must agree.
pub(crate) fn layer_plan(
    config: &ImageConfiguration,
    layers: &[Descriptor],
) -> Result<Vec<LayerPlan>, Error> {
    let diff_ids = config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|d| Digest::parse(d))
        .collect::<Result<Vec<_>, _>>()?;
    if diff_ids.len() != layers.len() {
        return Err(Error::malformed(
            "image",
            "mismatched image rootfs and manifest layers",
        ));
    }
    let chains = chain_ids(&diff_ids);
    Ok(layers
        .iter()
        .zip(diff_ids)
        .zip(chains)
        .map(|((blob, diff_id), chain)| LayerPlan {
            blob: blob.clone(),
            diff_id,
            chain,
        })
        .collect())
}

/// Reads a config.
pub(crate) fn parse_config(id: &Digest, data: &[u8]) -> Result<ImageConfiguration, Error> {
    serde_json::from_slice(data).map_err(|e| Error::malformed(format!("config {id}"), e))
}

/// Makes records and disk agree after a crash: images without their layers go, layers without a record too.
fn reconcile(disk: &Disk, records: &mut Records) -> Result<(), Error> {
    records.layers.retain(|chain, _| disk.layer(chain).is_dir());
    let known: BTreeSet<String> = records
        .layers
        .keys()
        .map(|c| layer_name(c).to_string())
        .collect();
    let layers = &records.layers;
    records.images.retain(|id, record| {
        let whole = record.layers.iter().all(|c| layers.contains_key(c))
            && disk.blob(id).is_file()
            && disk.blob(&record.manifest).is_file();
        if !whole {
            tracing::warn!(image = %id, names = ?record.names, "an image is not whole and is dropped");
        }
        whole
    });
    let images = &records.images;
    records.bundles.retain(|_, bundle| {
        bundle
            .names
            .iter()
            .all(|n| images.values().any(|r| r.names.contains(n)))
    });
    let dir = disk.layer_dir();
    for entry in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let path = entry.map_err(Error::io("list", &dir))?.path();
        let named = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if !known.contains(named) {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// Whether this file system can hold overlayfs' lower directories: tried, not guessed.
fn unsuitable(disk: &Disk) -> Option<String> {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    let dir = disk.fresh("probe");
    if let Err(e) = std::fs::create_dir(&dir) {
        return Some(format!("{}: {e}", dir.display()));
    }
    let device = dir.join("whiteout");
    let tried = mknodat(
        CWD,
        &device,
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(0, 0),
    )
    .and_then(|()| setxattr(&dir, crate::unpack::OPAQUE, b"y", XattrFlags::empty()));
    let reason = tried.err().map(|e| {
        let root = disk.root().display();
        let overlay = rustix::fs::statfs(&dir).is_ok_and(|s| s.f_type == 0x794c_7630);
        if overlay {
            format!("{root} is itself on overlayfs, which cannot hold image layers: put the data directory on a volume")
        } else {
            format!("the file system of {root} cannot hold image layers (whiteouts and trusted attributes): {e}")
        }
    });
    if let Err(error) = discard(&dir) {
        tracing::warn!(%error, "a probe of the file system could not be removed");
    }
    reason
}

fn stored(record: &Record) -> StoredImage {
    StoredImage {
        id: record.id.to_string(),
        target: record.target.to_string(),
        media_type: if record.target == record.manifest {
            crate::manifest::OCI_MANIFEST.to_string()
        } else {
            crate::manifest::OCI_INDEX.to_string()
        },
        platform: record.platform.clone(),
        names: record.names.iter().cloned().collect(),
        digests: record.digests.iter().cloned().collect(),
        size: record.size,
        user: record.user.clone(),
        pinned: record.pinned,
        created: record.created.clone(),
    }
}

/// The digest reference in the repository that was asked for, else in any.
fn digest_reference(record: &Record, image: &str) -> String {
    let wanted = crate::reference::Reference::parse(image)
        .map(|r| r.with_digest(r.digest().unwrap_or(&record.target)))
        .ok();
    wanted
        .filter(|w| record.digests.contains(w))
        .or_else(|| record.digests.iter().next().cloned())
        .unwrap_or_else(|| record.id.to_string())
}

// === Protection ===

impl Drop for Protection {
    fn drop(&mut self) {
        let mut protected = self.store.protected.lock();
        for chain in &self.chains {
            if let Some(count) = protected.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    protected.remove(chain);
                }
            }
        }
    }
}
