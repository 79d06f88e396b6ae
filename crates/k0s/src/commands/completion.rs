//! `k0s completion <shell>`.

use std::process::ExitCode;

use clap::Args;

/// Which shell.
#[derive(Debug, Args)]
pub struct Flags {
    /// bash, zsh, fish or powershell
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn run(flags: &Flags, command: &mut clap::Command) -> anyhow::Result<ExitCode> {
    clap_complete::generate(flags.shell, command, "k0s", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
