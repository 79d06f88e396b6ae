//! `k0s ctr images …`: on the running node through its status socket, or on the store on disk where no
//! node runs.

use std::path::PathBuf;

use oci::{ImageStore, StoreOptions};
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::status;

/// One command of `ctr images`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    Import { file: PathBuf },
    List { quiet: bool },
    Remove { references: Vec<String> },
    Pull { reference: String },
    Tag { from: String, to: Vec<String> },
}

/// Runs a command on a store; gives what it prints.
pub async fn run(images: &ImageStore, command: &Command) -> Result<String, String> {
    let mut out = Vec::new();
    match command {
        Command::Import { file } => runtime::ctr::import(images, file, &mut out).await,
        Command::List { quiet } => runtime::ctr::list(images, *quiet, &mut out),
        Command::Remove { references } => runtime::ctr::remove(images, references, &mut out).await,
        Command::Pull { reference } => runtime::ctr::pull(images, reference, &mut out).await,
        Command::Tag { from, to } => tag(images, from, to, &mut out).await,
    }
    .map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

async fn tag(
    images: &ImageStore,
    from: &str,
    to: &[String],
    out: &mut Vec<u8>,
) -> Result<(), oci::Error> {
    for name in to {
        runtime::ctr::tag(images, from, name, out).await?;
    }
    Ok(())
}

/// Runs a command on the node of this data directory, running or not.
pub async fn on_node(paths: &Paths, command: &Command) -> Result<String, String> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match status::ask_ctr(&paths.status_socket(), command).await {
        Ok(done) => done,
        Err(e) if matches!(e.kind(), NotFound | ConnectionRefused) => {
            let images = open(paths).map_err(|e| e.to_string())?;
            run(&images, command).await
        }
        Err(e) => Err(e.to_string()),
    }
}

/// The image store of a data directory.
pub fn open(paths: &Paths) -> Result<ImageStore, oci::Error> {
    let registry = oci::RegistryOptions {
        config_path: Some(PathBuf::from("/etc/k0s/containerd.d/certs.d")),
    };
    ImageStore::open(&paths.image_store(), StoreOptions { registry })
}
