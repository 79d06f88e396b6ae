//! One file per command.

pub mod completion;
pub mod config;
pub mod controller;
pub mod ctr;
pub mod encryption;
pub mod kubeconfig;
pub mod reset;
pub mod status;
pub mod stop;
pub mod sysinfo;
pub mod version;

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use cluster::ClusterConfig;

/// Reads a configuration: `-` is standard input, a missing default file means the defaults.
pub fn read_config(path: &Path) -> anyhow::Result<ClusterConfig> {
    let mut text = String::new();
    if path == Path::new("-") {
        let limit = cluster::limits::CONFIG_BYTES as u64 + 1;
        std::io::stdin()
            .take(limit)
            .read_to_string(&mut text)
            .context("reading standard input")?;
    } else {
        match std::fs::read_to_string(path) {
            Ok(t) => text = t,
            Err(e)
                if e.kind() == std::io::ErrorKind::NotFound
                    && path == Path::new(cluster::paths::CONFIG_FILE) => {}
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }
    Ok(ClusterConfig::parse(&text)?)
}
