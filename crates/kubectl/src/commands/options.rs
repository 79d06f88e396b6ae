//! `kubectl options`: the flags that every command takes.

use clap::Args;

use super::{Command, Run};
use crate::context::{Context, Globals};
use crate::error::Result;

pub const COMMAND: Command = Command::of::<Flags>(
    "options",
    &[],
    "Print the list of flags inherited by all commands",
);

/// Flags of `options`.
#[derive(Clone, Debug, Args)]
pub struct Flags {}

impl Run for Flags {
    async fn run(self, _: Context) -> Result<()> {
        println!("The following options can be passed to any command:\n");
        let all = Globals::augment_args(clap::Command::new("kubectl"));
        for arg in all.get_arguments().filter(|a| !a.is_hide_set()) {
            let short = arg
                .get_short()
                .map_or_else(String::new, |s| format!("-{s}, "));
            let long = arg.get_long().unwrap_or_default();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            println!("    {short}--{long}:\n\t{help}\n");
        }
        Ok(())
    }
}
