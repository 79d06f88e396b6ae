//! The test images, as OCI archives: busybox from Debian's busybox-static.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::binary;

/// Where the busybox program is on Debian.
const BUSYBOX: &str = "/bin/busybox";

/// The reference the conformance tests use.
pub const BUSYBOX_IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";

/// Builds all images into `target/images`; gives their paths.
pub fn build() -> Result<Vec<PathBuf>> {
    let dir = binary::target().join("images");
    std::fs::create_dir_all(&dir)?;
    Ok(vec![busybox(&dir)?])
}

/// An image with every applet in `/bin`, no entrypoint, command `sh`.
fn busybox(dir: &Path) -> Result<PathBuf> {
    let program = std::fs::read(BUSYBOX)
        .with_context(|| format!("{BUSYBOX}: install Debian's busybox-static"))?;
    let mut layer = tar::Builder::new(Vec::new());
    for (path, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
    ] {
        directory(&mut layer, path, mode)?;
    }
    file(&mut layer, "bin/busybox", &program, 0o755)?;
    for applet in applets()? {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    file(
        &mut layer,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\n",
        0o644,
    )?;
    file(&mut layer, "etc/group", b"root:x:0:\n", 0o644)?;
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
    archive(
        &dir.join("busybox.tar"),
        BUSYBOX_IMAGE,
        &layer.into_inner()?,
        config,
    )
}

/// The applets this busybox has.
fn applets() -> Result<Vec<String>> {
    let list = crate::cluster::run(std::process::Command::new(BUSYBOX).arg("--list"))?;
    Ok(list
        .lines()
        .filter(|a| !a.contains('/') && *a != "busybox")
        .map(str::to_string)
        .collect())
}

fn directory(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(mode);
    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    Ok(())
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, data: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, data)?;
    Ok(())
}

fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Writes an OCI image layout with one single-platform image as a tar file.
fn archive(path: &Path, reference: &str, layer: &[u8], run: Value) -> Result<PathBuf> {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    })
    .to_string()
    .into_bytes();
    let describe = |media: &str, data: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest(data), "size": data.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &config),
        "layers": [describe("layer.v1.tar", layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = describe("manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rsplit(':').next(),
    });
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    let mut blobs: BTreeMap<String, &[u8]> = BTreeMap::new();
    for data in [layer, &config, &manifest] {
        blobs.insert(
            format!(
                "blobs/sha256/{}",
                digest(data).trim_start_matches("sha256:")
            ),
            data,
        );
    }
    let mut tar = tar::Builder::new(Vec::new());
    file(
        &mut tar,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    file(&mut tar, "index.json", index.to_string().as_bytes(), 0o644)?;
    for (name, data) in blobs {
        file(&mut tar, &name, data, 0o644)?;
    }
    let mut out = std::fs::File::create(path)?;
    out.write_all(&tar.into_inner()?)?;
    Ok(path.to_path_buf())
}
