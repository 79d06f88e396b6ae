//! `k0s status`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use cluster::Paths;
use serde_json::Value;

use crate::cli::Common;

/// Flags of `k0s status`.
#[derive(Debug, Args)]
pub struct Flags {
    /// sets type of output to json or yaml
    #[arg(short, long, default_value = "")]
    out: String,
    #[command(flatten)]
    common: Common,
}

/// The socket of the node on this data directory.
pub fn socket(common: &Common) -> anyhow::Result<PathBuf> {
    match &common.status_socket {
        Some(path) => Ok(path.clone()),
        None => Ok(Paths::new(&std::path::absolute(&common.data_dir)?).status_socket()),
    }
}

/// Asks a running node for its status.
pub fn ask(common: &Common) -> anyhow::Result<Value> {
    let socket = socket(common)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(cluster::status::ask(&socket))
        .with_context(|| {
            format!(
                "status: can't get \"status\" via {}: is k0s running?",
                socket.display()
            )
        })
}

/// Prints the status.
pub fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let status = ask(&flags.common)?;
    match flags.out.as_str() {
        "json" => println!("{}", serde_json::to_string_pretty(&status)?),
        "yaml" => print!("{}", serde_saphyr::to_string(&status)?),
        "" => print!("{}", text(&status)),
        other => bail!("unknown output format {other:?}: expected json or yaml"),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Value) -> String {
    let shown = |field: &str| match &status[field] {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let mut text = format!(
        "Version: {}\nProcess ID: {}\nRole: {}\nWorkloads: {}\nSingleNode: {}\n",
        shown("Version"),
        shown("Pid"),
        shown("Role"),
        shown("Workloads"),
        shown("SingleNode"),
    );
    if status["Workloads"] == true {
        let probed = &status["WorkerToAPIConnectionStatus"];
        text.push_str(&format!(
            "Kube-api probing successful: {}\nKube-api probing last error: {}\n",
            probed["Success"],
            probed["Message"].as_str().unwrap_or_default()
        ));
    }
    text
}
