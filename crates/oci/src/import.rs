//! Images from archives: OCI image layouts and `docker save`, as a tar (plain, gzip or zstd) or a folder. Follows
//! containerd's archive.ImportIndex: a layout if it has `index.json`, else `manifest.json`. Layers are unpacked
//! straight from the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tar::EntryType;

use crate::digest::Digest;
use crate::disk::discard;
use crate::error::Error;
use crate::limits;
use crate::manifest::{
    Descriptor, Document, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform,
};
use crate::records::BundleRecord;
use crate::reference::Reference;
use crate::store::{Arriving, ImageStore, Inner, layer_plan, parse_config};
use crate::unpack::{Compression, Tape, bounded};

const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Files of an archive by name.
enum Files {
    Tar {
        path: PathBuf,
        at: BTreeMap<String, (u64, u64)>,
        /// A decompressed copy, removed at the end.
        temporary: bool,
    },
    Folder(PathBuf),
}

/// An entry of `docker save`'s manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image of an archive, and where its layers are.
struct Found {
    image: Arriving,
    files: Vec<String>,
}

// === ImageStore ===

impl ImageStore {
    /// Imports all images of an archive that run here; gives their names, or ids where they have none.
    pub async fn import(&self, archive: &Path) -> Result<Vec<String>, Error> {
        self.import_as(archive, false).await
    }

    /// As [`ImageStore::import`]; pinned images are kept by garbage collection.
    pub async fn import_as(&self, archive: &Path, pinned: bool) -> Result<Vec<String>, Error> {
        let archive = archive.to_path_buf();
        self.blocking("import of images", move |inner| {
            import(inner, &archive, pinned)
        })
        .await
    }

    /// Imports an archive unless it is the one that was imported before; `None` where nothing was to be done.
    pub async fn import_bundle(&self, archive: &Path) -> Result<Option<Vec<String>>, Error> {
        let archive = archive.to_path_buf();
        self.blocking("import of a bundle", move |inner| bundle(inner, &archive))
            .await
    }
}

fn bundle(inner: &Arc<Inner>, archive: &Path) -> Result<Option<Vec<String>>, Error> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(archive).map_err(Error::io("look at", archive))?;
    let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    let key = archive.display().to_string();
    let known = inner.read(|records| {
        records
            .bundles
            .get(&key)
            .is_some_and(|b| b.bytes == meta.len() && b.modified == modified)
    });
    if known {
        return Ok(None);
    }
    let names = import(inner, archive, true)?;
    let record = BundleRecord {
        bytes: meta.len(),
        modified,
        names: names
            .iter()
            .filter(|n| !n.starts_with("sha256:"))
            .cloned()
            .collect(),
    };
    inner.change(|records| {
        records.bundles.insert(key, record);
        Ok(())
    })?;
    Ok(Some(names))
}

fn import(inner: &Arc<Inner>, archive: &Path, pinned: bool) -> Result<Vec<String>, Error> {
    let files = Files::open(inner, archive)?;
    let found = if files.has("index.json") {
        layout(&files, pinned)?
    } else if files.has("manifest.json") {
        docker(&files, pinned)?
    } else {
        return Err(Error::malformed(
            archive.display().to_string(),
            "unrecognized image format",
        ));
    };
    let mut names = Vec::new();
    for one in found {
        let config = parse_config(&Digest::of(&one.image.config), &one.image.config)?;
        let plan = layer_plan(&config, &one.image.layers)?;
        let _kept = inner.protect(&plan);
        for (at, file) in one.files.iter().enumerate() {
            inner.ensure_layer(&plan, at, || files.read(file))?;
        }
        let known: Vec<String> = one.image.names.iter().cloned().collect();
        let id = inner.commit(one.image, &plan)?;
        if known.is_empty() {
            names.push(id.to_string());
        }
        names.extend(known);
    }
    Ok(names)
}

// === OCI layouts ===

fn layout(files: &Files, pinned: bool) -> Result<Vec<Found>, Error> {
    let data = files.small("index.json", limits::MANIFEST_BYTES)?;
    let Document::Index(entries) = Document::parse("index.json", &data)? else {
        return Err(Error::malformed("index.json", "not an index"));
    };
    let docker_names = docker_names(files)?;
    let mut found: Vec<Found> = Vec::new();
    for entry in &entries {
        let Some(mut one) = layout_image(files, entry, pinned)? else {
            tracing::debug!(digest = %entry.digest, "an image for another platform is passed over");
            continue;
        };
        let config = Digest::of(&one.image.config);
        let mut names: Vec<String> = annotated(entry);
        if names.is_empty() {
            names = docker_names.get(&config).cloned().unwrap_or_default();
        }
        one.name(&names);
        found.push(one);
    }
    if found.is_empty() {
        return Err(Error::Platform("index.json".to_string()));
    }
    Ok(found)
}

/// Names that an entry of the index brings.
fn annotated(entry: &Descriptor) -> Vec<String> {
    let get = |key: &str| entry.annotations.as_ref()?.get(key).cloned();
    if let Some(name) = get(IMAGE_NAME) {
        return vec![name];
    }
    // A bare tag names no image.
    get(REF_NAME)
        .filter(|n| n.contains(['/', ':']))
        .into_iter()
        .collect()
}

/// RepoTags of a layout that is a `docker save` too, by config.
fn docker_names(files: &Files) -> Result<BTreeMap<Digest, Vec<String>>, Error> {
    let mut names = BTreeMap::new();
    if files.has("manifest.json") {
        for image in docker_manifest(files)? {
            let config = files.small(&image.config, limits::CONFIG_BYTES)?;
            names.insert(Digest::of(&config), image.repo_tags.unwrap_or_default());
        }
    }
    Ok(names)
}

/// The image for this machine below an entry; `None` where there is none.
fn layout_image(files: &Files, entry: &Descriptor, pinned: bool) -> Result<Option<Found>, Error> {
    let top = files.blob(&entry.digest, limits::MANIFEST_BYTES)?;
    let Some((manifest, parsed)) = select(files, &entry.digest, top.clone(), 0)? else {
        return Ok(None);
    };
    let config = files.blob(&parsed.config.digest, limits::CONFIG_BYTES)?;
    if !Platform::host().fits(&parse_config(&parsed.config.digest, &config)?) {
        return Ok(None);
    }
    let index = (Digest::of(&manifest) != entry.digest).then_some(top);
    Ok(Some(Found {
        files: parsed.layers.iter().map(|l| blob_name(&l.digest)).collect(),
        image: Arriving {
            target: entry.digest.clone(),
            index,
            manifest,
            config,
            layers: parsed.layers,
            names: BTreeSet::new(),
            digests: BTreeSet::new(),
            pinned,
        },
    }))
}

fn select(
    files: &Files,
    digest: &Digest,
    data: Vec<u8>,
    depth: usize,
) -> Result<Option<(Vec<u8>, Manifest)>, Error> {
    match Document::parse(digest.as_str(), &data)? {
        Document::Manifest(manifest) => Ok(Some((data, *manifest))),
        Document::Index(_) if depth >= limits::INDEX_DEPTH => Err(Error::Limit {
            what: "indexes within indexes".to_string(),
            limit: limits::INDEX_DEPTH as u64,
        }),
        Document::Index(entries) => {
            for entry in Platform::host().choose(&entries) {
                // Archives often hold one platform of an index only.
                if files.has(&blob_name(&entry.digest)) {
                    let data = files.blob(&entry.digest, limits::MANIFEST_BYTES)?;
                    return select(files, &entry.digest, data, depth + 1);
                }
            }
            Ok(None)
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

// === docker save ===

fn docker_manifest(files: &Files) -> Result<Vec<DockerImage>, Error> {
    let data = files.small("manifest.json", limits::MANIFEST_BYTES)?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&data).map_err(|e| Error::malformed("manifest.json", e))?;
    if images.len() > limits::INDEX_ENTRIES {
        return Err(Error::Limit {
            what: "images of an archive".to_string(),
            limit: limits::INDEX_ENTRIES as u64,
        });
    }
    Ok(images)
}

fn docker(files: &Files, pinned: bool) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for image in docker_manifest(files)? {
        let config = files.small(&image.config, limits::CONFIG_BYTES)?;
        let id = Digest::of(&config);
        let parsed = parse_config(&id, &config)?;
        if !Platform::host().fits(&parsed) {
            continue;
        }
        let mut one = docker_image(files, image.layers, config, &parsed, pinned)?;
        one.name(&image.repo_tags.unwrap_or_default());
        found.push(one);
    }
    if found.is_empty() {
        return Err(Error::Platform("manifest.json".to_string()));
    }
    Ok(found)
}

/// Such an archive has no manifest: one is made, of the layers as they lie in the archive.
fn docker_image(
    files: &Files,
    names: Vec<String>,
    config: Vec<u8>,
    parsed: &oci_spec::image::ImageConfiguration,
    pinned: bool,
) -> Result<Found, Error> {
    let describe = |media: &str, digest: Digest, size: u64| Descriptor {
        media_type: media.to_string(),
        digest,
        size,
        annotations: None,
        platform: None,
        urls: None,
    };
    let diff_ids = parsed.rootfs().diff_ids();
    if diff_ids.len() != names.len() {
        return Err(Error::malformed(
            "manifest.json",
            "mismatched image rootfs and manifest layers",
        ));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in names.iter().zip(diff_ids) {
        let diff_id = Digest::parse(diff_id)?;
        let mut head = Vec::new();
        files
            .read(name)?
            .take(4)
            .read_to_end(&mut head)
            .map_err(Error::io("read", name))?;
        let (digest, size) = if Compression::of(&head) == Compression::None {
            (diff_id, files.size(name)?)
        } else {
            let hashing = crate::digest::Hashing::new(files.read(name)?, &diff_id);
            hashing.finish().map_err(Error::io("read", name))?
        };
        layers.push(describe(OCI_LAYER, digest, size));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_string()),
        config: describe(OCI_CONFIG, Digest::of(&config), config.len() as u64),
        layers: layers.clone(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|e| Error::malformed("manifest", e))?;
    Ok(Found {
        files: names,
        image: Arriving {
            target: Digest::of(&manifest),
            index: None,
            manifest,
            config,
            layers,
            names: BTreeSet::new(),
            digests: BTreeSet::new(),
            pinned,
        },
    })
}

// === Found ===

impl Found {
    /// Gives the image those of the names that are references.
    fn name(&mut self, names: &[String]) {
        for name in names {
            match Reference::parse(name) {
                Ok(reference) => {
                    self.image.names.extend(reference.tagged());
                    self.image
                        .digests
                        .insert(reference.with_digest(&self.image.target));
                }
                Err(error) => tracing::warn!(name, %error, "a name in an archive is no reference"),
            }
        }
    }
}

// === Files ===

impl Files {
    fn open(inner: &Inner, archive: &Path) -> Result<Self, Error> {
        let io = || Error::io("read", archive);
        if archive.is_dir() {
            return Ok(Self::Folder(archive.to_path_buf()));
        }
        let mut head = Vec::new();
        let file = std::fs::File::open(archive).map_err(io())?;
        (&file).take(4).read_to_end(&mut head).map_err(io())?;
        if Compression::of(&head) == Compression::None {
            return Self::scan(archive.to_path_buf(), false);
        }
        (&file).seek(SeekFrom::Start(0)).map_err(io())?;
        let temp = inner.disk.fresh("archive");
        let copied = bounded(file, limits::ARCHIVE_BYTES).and_then(|mut stream| {
            let mut out = std::fs::File::create(&temp)?;
            std::io::copy(&mut stream, &mut out)
        });
        let scanned = match copied {
            Ok(_) => Self::scan(temp.clone(), true),
            Err(e) => Err(Error::io("decompress", archive)(e)),
        };
        if scanned.is_err() {
            discard(&temp)?;
        }
        scanned
    }

    /// Finds out what is where in a tar.
    fn scan(path: PathBuf, temporary: bool) -> Result<Self, Error> {
        let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
        let length = file.metadata().map_err(Error::io("look at", &path))?.len();
        let mut tape = Tape::new(BufReader::new(file));
        let mut at: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut links: Vec<(String, String)> = Vec::new();
        while let Some(member) = tape.advance().map_err(Error::io("read", &path))? {
            if at.len() + links.len() > limits::ARCHIVE_FILES {
                return Err(Error::Limit {
                    what: format!("files in {}", path.display()),
                    limit: limits::ARCHIVE_FILES as u64,
                });
            }
            let name = clean("", &String::from_utf8_lossy(&member.path));
            let target = String::from_utf8_lossy(&member.link).into_owned();
            match member.kind {
                EntryType::Regular | EntryType::Continuous => {
                    if tape.position() + member.stored > length {
                        let short = std::io::ErrorKind::UnexpectedEof.into();
                        return Err(Error::io("read", &path)(short));
                    }
                    at.insert(name, (tape.position(), member.stored));
                }
                EntryType::Link => links.push((name, clean("", &target))),
                EntryType::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(f, _)| f).to_string();
                    links.push((name, clean(&folder, &target)));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(place) = at.get(&target).copied() {
                at.insert(name, place);
            }
        }
        Ok(Self::Tar {
            path,
            at,
            temporary,
        })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Tar { at, .. } => at.contains_key(&clean("", name)),
            Self::Folder(root) => root.join(clean("", name)).is_file(),
        }
    }

    fn place(&self, name: &str) -> Result<(PathBuf, u64, u64), Error> {
        let missing = || Error::NotFound(format!("{name} in the archive"));
        match self {
            Self::Tar { path, at, .. } => {
                let (offset, size) = *at.get(&clean("", name)).ok_or_else(missing)?;
                Ok((path.clone(), offset, size))
            }
            Self::Folder(root) => {
                let path = root.join(clean("", name)).canonicalize();
                let path = path.map_err(|_| missing())?;
                let root = root.canonicalize().map_err(Error::io("read", root))?;
                let meta = std::fs::metadata(&path).map_err(|_| missing())?;
                // Links within the folder are fine; devices, pipes and the rest of the machine are not.
                if !path.starts_with(&root) || !meta.is_file() {
                    return Err(missing());
                }
                Ok((path, 0, meta.len()))
            }
        }
    }

    fn size(&self, name: &str) -> Result<u64, Error> {
        Ok(self.place(name)?.2)
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read>, Error> {
        let (path, offset, size) = self.place(name)?;
        let mut file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(Error::io("read", &path))?;
        Ok(Box::new(file.take(size)))
    }

    /// Reads a small file whole.
    fn small(&self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        if self.size(name)? > most {
            return Err(Error::Limit {
                what: name.to_string(),
                limit: most,
            });
        }
        let mut data = Vec::new();
        self.read(name)?
            .read_to_end(&mut data)
            .map_err(Error::io("read", name))?;
        Ok(data)
    }

    /// Reads a small blob whole and checks its digest.
    fn blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Error> {
        let data = self.small(&blob_name(digest), most)?;
        if !digest.matches(&data) {
            return Err(Error::Mismatch {
                what: blob_name(digest),
                expected: digest.to_string(),
                found: Digest::of(&data).to_string(),
            });
        }
        Ok(data)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Self::Tar {
            path,
            temporary: true,
            ..
        } = self
            && let Err(error) = discard(path)
        {
            tracing::warn!(%error, "a decompressed archive could not be removed");
        }
    }
}

/// A name within the archive, without `.`, `..` and leading slash.
fn clean(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = if name.starts_with('/') {
        Vec::new()
    } else {
        folder.split('/').filter(|p| !p.is_empty()).collect()
    };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
