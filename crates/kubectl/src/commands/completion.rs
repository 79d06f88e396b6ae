//! `kubectl completion`.

use clap::Args;
use clap_complete::Shell;

use super::{Command, Run};
use crate::context::Context;
use crate::error::{Error, Result};

pub const COMMAND: Command = Command::of::<Flags>(
    "completion",
    &[],
    "Output shell completion code for the specified shell (bash, zsh, fish, or powershell)",
);

/// Flags of `completion`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    shell: Option<String>,
}

impl Run for Flags {
    async fn run(self, _: Context) -> Result<()> {
        let shell = match self.shell.as_deref() {
            None => {
                return Err(Error::text(
                    "Shell not specified.\nSee 'kubectl completion -h' for help and examples",
                ));
            }
            Some("bash") => Shell::Bash,
            Some("zsh") => Shell::Zsh,
            Some("fish") => Shell::Fish,
            Some("powershell") => Shell::PowerShell,
            Some(other) => {
                return Err(Error::text(format!(
                    "Unsupported shell type \"{other}\".\nSee 'kubectl completion -h' for help and examples"
                )));
            }
        };
        let mut root = crate::command_line::root();
        clap_complete::generate(shell, &mut root, "kubectl", &mut std::io::stdout());
        Ok(())
    }
}
