//! Which images there are: one document, replaced as a whole. An image is in it only when its blobs and layers are
//! on the disk, and a layer is removed only after nothing in it has that layer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::limits;
use crate::reference::Reference;

/// The whole document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Records {
    /// By image id.
    pub images: BTreeMap<Digest, Record>,
    /// Unpacked layers by chain ID.
    pub layers: BTreeMap<Digest, LayerRecord>,
    /// Archives that were imported, so that they are not read again.
    #[serde(default)]
    pub bundles: BTreeMap<String, BundleRecord>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the config, which is the image's id.
    pub id: Digest,
    /// Of this platform's manifest.
    pub manifest: Digest,
    /// What the name leads to: the manifest, or an index around it.
    pub target: Digest,
    /// `domain/path:tag`.
    pub names: BTreeSet<String>,
    /// `domain/path@digest`.
    pub digests: BTreeSet<String>,
    /// Chain IDs, bottom first.
    pub layers: Vec<Digest>,
    /// Bytes of manifest, config and packed layers.
    pub size: u64,
    /// The config's user.
    pub user: String,
    pub pinned: bool,
    /// `os/architecture`.
    pub platform: String,
    /// When it came here.
    pub created: String,
}

/// An unpacked layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub bytes: u64,
    pub entries: u64,
}

/// An archive as it was when it was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRecord {
    pub bytes: u64,
    /// Nanoseconds since the epoch.
    pub modified: i128,
    pub names: Vec<String>,
}

// === Records ===

impl Records {
    /// Adds an image; a name it brings leaves the image that had it.
    pub fn insert(&mut self, record: Record) -> Result<(), Error> {
        for name in &record.names {
            for other in self.images.values_mut() {
                other.names.remove(name);
            }
        }
        match self.images.get_mut(&record.id) {
            Some(known) => {
                known.names.extend(record.names);
                known.digests.extend(record.digests);
                known.pinned |= record.pinned;
                known.target = record.target;
                bound(
                    "names of an image",
                    known.names.len() + known.digests.len(),
                    limits::NAMES,
                )
            }
            None => {
                bound("images in the store", self.images.len() + 1, limits::IMAGES)?;
                self.images.insert(record.id.clone(), record);
                Ok(())
            }
        }
    }

    /// Finds an image by reference, id or the beginning of an id.
    pub fn find(&self, image: &str) -> Option<&Record> {
        if let Some(record) = Digest::parse(image).ok().and_then(|d| self.images.get(&d)) {
            return Some(record);
        }
        if let Ok(reference) = Reference::parse(image)
            && let Some(record) = self.by_reference(&reference)
        {
            return Some(record);
        }
        self.by_prefix(image.strip_prefix("sha256:").unwrap_or(image))
    }

    fn by_reference(&self, reference: &Reference) -> Option<&Record> {
        let Some(digest) = reference.digest() else {
            let name = reference.tagged()?;
            return self.images.values().find(|r| r.names.contains(&name));
        };
        let name = reference.with_digest(digest);
        self.images.values().find(|r| r.digests.contains(&name))
    }

    /// The only image whose id begins so.
    fn by_prefix(&self, prefix: &str) -> Option<&Record> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut matching = self
            .images
            .values()
            .filter(|r| r.id.hex().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// Layers that images have.
    pub fn used_layers(&self) -> BTreeSet<&Digest> {
        self.images.values().flat_map(|r| &r.layers).collect()
    }

    /// Blobs that images have.
    pub fn used_blobs(&self) -> BTreeSet<&Digest> {
        self.images
            .values()
            .flat_map(|r| [&r.id, &r.manifest, &r.target])
            .collect()
    }
}

fn bound(what: &str, n: usize, limit: usize) -> Result<(), Error> {
    if n > limit {
        return Err(Error::Limit {
            what: what.to_string(),
            limit: limit as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Digest, Record, Records};

    fn record(id: &str, name: &str) -> Record {
        let id = Digest::of(id.as_bytes());
        Record {
            manifest: id.clone(),
            target: id.clone(),
            names: [name.to_string()].into(),
            digests: [format!("q.io/x@{id}")].into(),
            layers: Vec::new(),
            size: 0,
            user: String::new(),
            pinned: false,
            platform: String::new(),
            created: String::new(),
            id,
        }
    }

    #[test]
    fn a_name_has_one_image() {
        let mut records = Records::default();
        let (old, new) = (record("a", "q.io/x:1"), record("b", "q.io/x:1"));
        records.insert(old.clone()).unwrap();
        records.insert(new.clone()).unwrap();
        assert_eq!(records.find("q.io/x:1").unwrap().id, new.id);
        // The old one can be had by digest and id only.
        assert!(records.images[&old.id].names.is_empty());
        assert_eq!(
            records.find(&format!("q.io/x@{}", old.id)).unwrap().id,
            old.id
        );
        assert_eq!(records.find(old.id.as_str()).unwrap().id, old.id);
        assert_eq!(records.find(&old.id.hex()[..12]).unwrap().id, old.id);
        assert!(records.find("q.io/y:1").is_none());
        assert!(records.find("").is_none());
    }
}
