//! `kubectl api-versions`.

use clap::Args;

use super::{Command, Run};
use crate::context::Context;
use crate::error::Result;

pub const COMMAND: Command = Command::of::<Flags>(
    "api-versions",
    &[],
    "Print the supported API versions on the server, in the form of \"group/version\"",
);

/// Flags of `api-versions`.
#[derive(Clone, Debug, Args)]
pub struct Flags {}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let mut all = cx.discovery().await?.versions.clone();
        all.sort();
        all.iter().for_each(|v| println!("{v}"));
        Ok(())
    }
}
