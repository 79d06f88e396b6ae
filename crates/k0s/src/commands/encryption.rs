//! `k0s encryption`: the keys that objects are sealed with in the store.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::cli::CommonOnly;

/// Makes a new key, seals everything with it, forgets the old one.
pub fn rotate(flags: &CommonOnly) -> anyhow::Result<ExitCode> {
    let socket = super::status::socket(&flags.common)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = runtime.block_on(cluster::status::rotate_key(&socket));
    let asked = asked.with_context(|| format!("via {}: is k0s running?", socket.display()))?;
    let done: Value = asked.map_err(anyhow::Error::msg)?;
    println!("objects sealed with the new key: {}", done["resealed"]);
    Ok(ExitCode::SUCCESS)
}
