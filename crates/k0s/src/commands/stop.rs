//! `k0s stop`: ends the node that runs on this data directory.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli::Common;

/// How long a node may take to stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends TERM and waits until the status socket answers no more.
pub fn run(common: &Common) -> anyhow::Result<ExitCode> {
    let Ok(status) = super::status::ask(common) else {
        bail!("already stopped");
    };
    let pid = status["Pid"].as_i64().and_then(|p| i32::try_from(p).ok());
    let pid = pid.context("the node did not tell its process id")?;
    linux::process::terminate(pid).with_context(|| format!("stopping process {pid}"))?;
    let end = Instant::now() + DEADLINE;
    while super::status::ask(common).is_ok() {
        if Instant::now() > end {
            bail!("process {pid} did not stop within {} s", DEADLINE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}
