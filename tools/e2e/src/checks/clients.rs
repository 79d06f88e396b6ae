//! Unmodified clients against a whole node: the Python client and client-go do what their users do. The
//! programs are in `tools/e2e/clients`; `cargo xtask clients` fetches and builds what they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::Outcome;
use crate::cluster::{Cluster, run as program};

const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";

/// The clients' own part of the repository.
pub(super) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where `cargo xtask clients` puts what it fetches and builds.
pub(super) fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients")
}

pub fn python() -> Result<Outcome> {
    let interpreter = built().join("python/bin/python");
    if !interpreter.exists() {
        return Ok(Outcome::Skipped("run `cargo xtask clients` first".into()));
    }
    let mut command = Command::new(interpreter);
    command.arg(sources().join("python/client.py"));
    against_a_node(command)
}

pub fn go() -> Result<Outcome> {
    let client = built().join("client-go");
    if !client.exists() {
        return Ok(Outcome::Skipped("run `cargo xtask clients` first".into()));
    }
    against_a_node(Command::new(client))
}

/// A controller with a conversion and admission webhooks.
pub fn extension() -> Result<Outcome> {
    let extension = built().join("extension");
    if !extension.exists() {
        return Ok(Outcome::Skipped("run `cargo xtask clients` first".into()));
    }
    against_a_node(Command::new(extension))
}

/// The client gets a kubeconfig and an image, and says `done` at the end.
fn against_a_node(mut client: Command) -> Result<Outcome> {
    let wanted = |name: &str| matches!(name, "busybox.tar" | "pause.tar");
    let mut cluster = Cluster::launch(wanted)?;
    cluster.wait_ready()?;
    let told = program(client.arg(cluster.kubeconfig()).arg(IMAGE))?;
    ensure!(told.ends_with("done\n"), "{told}");
    Ok(Outcome::Passed)
}
