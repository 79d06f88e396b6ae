//! `k0s reset`: takes a stopped node off this host.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use cluster::Paths;

use crate::cli::Common;

/// Flags of `k0s reset`.
#[derive(Debug, Args)]
pub struct Flags {
    /// config file, use '-' to read the config from stdin
    #[arg(short, long, default_value = cluster::paths::CONFIG_FILE)]
    config: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Refuses while k0s runs; every step is tried, whatever fails before it.
pub fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    if !cluster::paths::is_root() {
        bail!("this command must be run as root!");
    }
    if super::status::ask(&flags.common).is_ok() {
        bail!("k0s seems to be running, please stop k0s before reset");
    }
    let config = super::read_config(&flags.config)?;
    let paths = Paths::new(&std::path::absolute(&flags.common.data_dir)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let problems = runtime.block_on(cluster::reset(&config, &paths));
    if problems.is_empty() {
        println!("k0s cleanup operations done.");
        println!("To ensure a full reset, a node reboot is recommended.");
        return Ok(ExitCode::SUCCESS);
    }
    bail!("errors occurred during reset:\n  {}", problems.join("\n  "));
}
