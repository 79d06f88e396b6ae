//! `k0s config create` and `k0s config validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use cluster::ClusterConfig;

/// Flags of `config create`.
#[derive(Debug, Args)]
pub struct Create {
    /// include the default images in the output
    #[arg(long)]
    include_images: bool,
}

/// Flags of `config validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// config file, use '-' to read the config from stdin
    #[arg(short, long, default_value = cluster::paths::CONFIG_FILE)]
    config: PathBuf,
}

/// Prints the default configuration with this host's addresses.
pub fn create(flags: &Create) -> anyhow::Result<ExitCode> {
    let address = cluster::host::address().to_string();
    let sans = std::slice::from_ref(&address);
    print!(
        "{}",
        ClusterConfig::default_yaml(&address, sans, flags.include_images)
    );
    Ok(ExitCode::SUCCESS)
}

/// Says nothing where the configuration is valid.
pub fn validate(flags: &Validate) -> anyhow::Result<ExitCode> {
    super::read_config(&flags.config)?;
    Ok(ExitCode::SUCCESS)
}
