//! What an archive or a registry sends: where the fuzz target enters (`tools/fuzz`).

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;
use crate::manifest::{Document, Platform};
use crate::reference::Reference;
use crate::store::{layer_plan, parse_config};

/// A manifest or index; gives how many entries or layers it names.
pub fn document(data: &[u8]) -> Option<usize> {
    match Document::parse("document", data).ok()? {
        Document::Index(entries) => Some(Platform::host().choose(&entries).len()),
        Document::Manifest(manifest) => Some(manifest.layers.len()),
    }
}

/// An image's configuration, with the manifest that names its layers.
pub fn config(data: &[u8], manifest: &[u8]) -> bool {
    let parsed = parse_config(&Digest::of(data), data);
    let Ok(Document::Manifest(manifest)) = Document::parse("manifest", manifest) else {
        return false;
    };
    parsed.is_ok_and(|c: ImageConfiguration| layer_plan(&c, &manifest.layers).is_ok())
}

/// An image's name.
pub fn reference(text: &str) -> bool {
    Reference::parse(text).is_ok()
}
