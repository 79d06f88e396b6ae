//! `cargo xtask run`: from a checkout to a working cluster in the foreground.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{host, shell};

/// Builds the release binary and becomes `k0s controller --single`, through sudo where not root.
/// Further arguments go to k0s.
pub fn run(args: &[String]) -> Result<()> {
    host::ready_to_build()?;
    host::kernel_ready()?;
    let binary = shell::build_release()?;
    let mut command = if shell::is_root() {
        Command::new(&binary)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(&binary);
        sudo
    };
    command.args(["controller", "--single"]).args(args);
    println!(
        "$ {} controller --single {}",
        binary.display(),
        args.join(" ")
    );
    // Becoming the program hands Ctrl-C to it and to nobody else. `exec` returns only on failure.
    Err(command.exec()).with_context(|| format!("starting {}", binary.display()))
}
