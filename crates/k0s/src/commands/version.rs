//! `k0s version`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

/// Flags of `k0s version`.
#[derive(Debug, Args)]
pub struct Flags {
    /// use to print all k0s version info
    #[arg(short, long)]
    all: bool,
    /// use to print all k0s version info in json
    #[arg(short, long)]
    json: bool,
}

/// Prints the version. What other distributions embed is part of this binary and has its version.
pub fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let kubernetes = crate::VERSION.split('+').next().unwrap_or(crate::VERSION);
    let kubernetes = kubernetes.trim_start_matches('v');
    if flags.json {
        println!(
            "{}",
            serde_json::to_string_pretty(
                &json!({"k0s": crate::VERSION, "kubernetes": kubernetes})
            )?
        );
    } else if flags.all {
        println!("k0s : {}\nkubernetes : {kubernetes}", crate::VERSION);
    } else {
        println!("{}", crate::VERSION);
    }
    Ok(ExitCode::SUCCESS)
}
