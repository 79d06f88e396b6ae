//! Layers and archives of images.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// A layer under construction.
pub struct Layer(tar::Builder<Vec<u8>>);

// === Layer ===

impl Layer {
    /// An empty one.
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = header(EntryType::Directory, mode);
        self.0
            .append_data(&mut header, format!("{path}/"), std::io::empty())?;
        Ok(())
    }

    pub fn file(&mut self, path: &str, data: &[u8], mode: u32) -> Result<()> {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(data.len() as u64);
        self.0.append_data(&mut header, path, data)?;
        Ok(())
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777);
        self.0.append_link(&mut header, path, target)?;
        Ok(())
    }

    /// A hard link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Link, 0o755);
        self.0.append_link(&mut header, path, target)?;
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        // The end of a tar is two empty blocks.
        let mut data = self.0.get_ref().clone();
        data.extend_from_slice(&[0; 1024]);
        data
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Writes an OCI image layout with one image under several references as a tar file.
pub fn archive(path: &Path, references: &[&str], layers: &[Layer], run: &Value) -> Result<()> {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let layers: Vec<Vec<u8>> = layers.iter().map(Layer::bytes).collect();
    let diff_ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let describe = |media: &str, data: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest(data), "size": data.len()});
    let described: Vec<Value> = layers.iter().map(|l| describe("layer.v1.tar", l)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &config), "layers": described,
    })
    .to_string()
    .into_bytes();
    let entries: Vec<Value> = references
        .iter()
        .map(|reference| {
            let mut entry = describe("manifest.v1+json", &manifest);
            entry["annotations"] = json!({
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference.rsplit(':').next(),
            });
            entry
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    let mut blobs: BTreeMap<String, &[u8]> = BTreeMap::new();
    for data in layers.iter().chain([&config, &manifest]) {
        blobs.insert(
            format!(
                "blobs/sha256/{}",
                digest(data).trim_start_matches("sha256:")
            ),
            data,
        );
    }
    let mut out = Layer::new();
    out.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    out.file("index.json", index.to_string().as_bytes(), 0o644)?;
    for (name, data) in blobs {
        out.file(&name, data, 0o644)?;
    }
    // Renamed when whole: a cluster may watch the folder.
    let temp = path.with_extension("part");
    std::fs::File::create(&temp)?.write_all(&out.bytes())?;
    std::fs::rename(&temp, path)?;
    Ok(())
}
