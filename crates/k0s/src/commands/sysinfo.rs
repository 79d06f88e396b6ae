//! `k0s sysinfo`: whether this host can run a node.

use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgAction, Args};
use cluster::sysinfo::{self, Role};

use crate::cli::Common;

/// Flags of `k0s sysinfo`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Include controller-specific sysinfo
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    controller: bool,
    /// Include worker-specific sysinfo
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    worker: bool,
    /// Output format (valid values: text, json, yaml)
    #[arg(short, long, default_value = "text")]
    output: String,
    #[command(flatten)]
    common: Common,
}

/// Prints every check; fails where one that is needed does not pass.
pub fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let role = Role {
        controller: flags.controller,
        worker: flags.worker,
    };
    let data = std::path::absolute(&flags.common.data_dir)?;
    let probes = sysinfo::probe(role, &data);
    match flags.output.as_str() {
        "text" => print!("{}", sysinfo::text(&probes)),
        "json" => println!("{}", serde_json::to_string_pretty(&probes)?),
        "yaml" => print!("{}", serde_saphyr::to_string(&probes)?),
        other => bail!("unknown output format: {other:?}"),
    }
    if sysinfo::failed(&probes) {
        bail!("sysinfo failed");
    }
    Ok(ExitCode::SUCCESS)
}
