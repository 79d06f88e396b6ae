//! Makes images.

use std::io::Write;
use std::path::Path;

use oci::Digest;
use serde_json::{Value, json};

/// One image, single platform.
pub struct Image {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

/// A layer with one file.
pub fn layer(path: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content).unwrap();
    tar.into_inner().unwrap()
}

fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

/// An image of such layers for this machine.
pub fn image(layers: &[Vec<u8>]) -> Image {
    image_for(host(), layers)
}

/// An image of such layers.
pub fn image_for(architecture: &str, layers: &[Vec<u8>]) -> Image {
    let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"User": "1000", "Cmd": ["/bin/sh"], "Entrypoint": null, "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "test"}],
    })
    .to_string()
    .into_bytes();
    let describe = |media: &str, data: &[u8]| {
        json!({"mediaType": format!("application/vnd.oci.image.{media}"),
               "digest": Digest::of(data).to_string(), "size": data.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &config),
        "layers": layers.iter().map(|l| describe("layer.v1.tar", l)).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes();
    Image {
        manifest,
        config,
        layers: layers.to_vec(),
    }
}

impl Image {
    pub fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    pub fn blobs(&self) -> Vec<&[u8]> {
        let small = [self.manifest.as_slice(), self.config.as_slice()];
        small
            .into_iter()
            .chain(self.layers.iter().map(Vec::as_slice))
            .collect()
    }

    /// An entry of an index.
    pub fn entry(&self, annotations: Value) -> Value {
        let config: Value = serde_json::from_slice(&self.config).unwrap();
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
               "digest": Digest::of(&self.manifest).to_string(), "size": self.manifest.len(),
               "annotations": annotations,
               "platform": {"os": "linux", "architecture": config["architecture"]}})
    }
}

/// A tar of such files.
pub fn tar_of(files: &[(String, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An OCI layout with such entries.
pub fn layout(entries: Vec<Value>, blobs: &[&[u8]]) -> Vec<u8> {
    let index = index(entries);
    let mut files: Vec<(String, &[u8])> = vec![
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json".into(), &index),
    ];
    for blob in blobs {
        files.push((format!("blobs/sha256/{}", Digest::of(blob).hex()), blob));
    }
    tar_of(&files)
}

pub fn index(entries: Vec<Value>) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
        .to_string()
        .into_bytes()
}

pub fn write(path: &Path, data: &[u8]) {
    std::fs::File::create(path)
        .unwrap()
        .write_all(data)
        .unwrap();
}

/// Whether layers can be unpacked here.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: unpacking layers needs root");
    }
    root
}
