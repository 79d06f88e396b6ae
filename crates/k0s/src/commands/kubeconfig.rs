//! `k0s kubeconfig admin`.

use std::process::ExitCode;

use anyhow::Context;
use cluster::Paths;

use crate::cli::Common;

/// Prints the admin's kubeconfig.
pub fn admin(common: &Common) -> anyhow::Result<ExitCode> {
    let path = Paths::new(&std::path::absolute(&common.data_dir)?).admin_conf();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "reading {}: no controller has run on this data directory yet",
            path.display()
        )
    })?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
