//! Manifests, indexes and the choice of a platform. OCI image spec 1.1 and Docker's schema 2, which share their shape.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::limits;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// Names a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Other places of the blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// One image for one platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// What a digest or tag leads to.
#[derive(Clone, Debug)]
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    schema_version: u32,
}

// === Document ===

impl Document {
    /// Reads a manifest or index. A document that is both is refused (CVE-2021-41190).
    pub fn parse(what: &str, data: &[u8]) -> Result<Self, Error> {
        let shape: Shape = serde_json::from_slice(data).map_err(|e| Error::malformed(what, e))?;
        let media = shape.media_type.as_deref().unwrap_or_default();
        if shape.schema_version == 1 || media.starts_with(DOCKER_SCHEMA1) {
            let text = "media type \"application/vnd.docker.distribution.manifest.v1+prettyjws\" is no longer supported";
            return Err(Error::malformed(what, text));
        }
        if let Some(manifests) = shape.manifests {
            let both: Result<Manifest, _> = serde_json::from_slice(data);
            if both.is_ok() || matches!(media, OCI_MANIFEST | DOCKER_MANIFEST) {
                return Err(Error::malformed(
                    what,
                    "invalid manifest, both index and manifest",
                ));
            }
            bound(
                "manifests of an index",
                manifests.len(),
                limits::INDEX_ENTRIES,
            )?;
            return Ok(Self::Index(manifests));
        }
        let manifest: Manifest =
            serde_json::from_slice(data).map_err(|e| Error::malformed(what, e))?;
        bound("layers of an image", manifest.layers.len(), limits::LAYERS)?;
        Ok(Self::Manifest(Box::new(manifest)))
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

// === Platform ===

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_string(),
            os: "linux".to_string(),
            variant: variant.map(str::to_string),
        }
    }

    /// How well an image for `other` runs here: lower is better, `None` not at all.
    fn rank(&self, other: &Platform) -> Option<usize> {
        if other.os != self.os || other.architecture != self.architecture {
            return None;
        }
        let number =
            |v: Option<&str>| v.and_then(|v| v.trim_start_matches('v').parse::<usize>().ok());
        let own = number(self.variant.as_deref());
        match (own, number(other.variant.as_deref())) {
            (_, None) => Some(0),
            (None, Some(wanted)) => (wanted <= 1).then_some(1),
            (Some(own), Some(wanted)) => own.checked_sub(wanted),
        }
    }

    /// The entries of an index that run here, the best first.
    pub fn choose<'a>(&self, entries: &'a [Descriptor]) -> Vec<&'a Descriptor> {
        let mut fit: Vec<(usize, &Descriptor)> = entries
            .iter()
            .filter_map(|e| match &e.platform {
                Some(platform) => self.rank(platform).map(|r| (r, e)),
                None => Some((usize::MAX, e)),
            })
            .collect();
        fit.sort_by_key(|(rank, _)| *rank);
        fit.into_iter().map(|(_, e)| e).collect()
    }

    /// Whether an image of this config runs here.
    pub fn fits(&self, config: &ImageConfiguration) -> bool {
        let platform = Platform {
            architecture: config.architecture().to_string(),
            os: config.os().to_string(),
            variant: config.variant().clone(),
        };
        self.rank(&platform).is_some()
    }
}

/// Names of the unpacked layers, bottom first: each depends on all below it (OCI ChainID).
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        chain.push(match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::{Digest, Document, Platform, chain_ids};

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> super::Descriptor {
        super::Descriptor {
            media_type: String::new(),
            digest: Digest::of(format!("{os}{architecture}{variant:?}").as_bytes()),
            size: 1,
            annotations: None,
            urls: None,
            platform: Some(Platform {
                architecture: architecture.into(),
                os: os.into(),
                variant: variant.map(str::to_string),
            }),
        }
    }

    #[test]
    fn the_best_platform_comes_first() {
        let arm = Platform {
            architecture: "arm".into(),
            os: "linux".into(),
            variant: Some("v7".into()),
        };
        let entries = [
            entry("linux", "amd64", None),
            entry("linux", "arm", Some("v5")),
            entry("linux", "arm", Some("v8")),
            entry("linux", "arm", Some("v6")),
            entry("unknown", "unknown", None),
        ];
        let chosen: Vec<_> = arm
            .choose(&entries)
            .iter()
            .map(|e| e.digest.clone())
            .collect();
        assert_eq!(
            chosen,
            [entries[3].digest.clone(), entries[1].digest.clone()]
        );
    }

    #[test]
    fn chain_ids_depend_on_what_is_below() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_ids(&[b, a])[1], chain[1]);
    }

    #[test]
    fn a_document_that_is_both_is_refused() {
        let digest = Digest::of(b"");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}"}},"layers":[],"manifests":[]}}"#
        );
        let error = Document::parse("x", text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("both"), "{error}");
    }
}
