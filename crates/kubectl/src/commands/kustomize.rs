//! `kubectl kustomize`: the objects of a kustomization. Upstream: kubectl/pkg/cmd/kustomize.

use clap::Args;

use super::{Command, Run};
use crate::context::Context;
use crate::error::Result;
use crate::{kustomize, yaml};

pub const COMMAND: Command = Command::of::<Flags>(
    "kustomize",
    &[],
    "Build a kustomization target from a directory or URL",
);

/// Flags of `kustomize`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// The folder, this one where none is named
    folder: Option<String>,
    /// If specified, write output to this path
    #[arg(short, long)]
    output: Option<String>,
}

impl Run for Flags {
    async fn run(self, _: Context) -> Result<()> {
        let objects = kustomize::build(self.folder.as_deref().unwrap_or("."))?;
        let all: Vec<String> = objects.iter().map(yaml::to_string).collect();
        let text = all.join("---\n");
        match self.output {
            Some(path) => std::fs::write(path, text)?,
            None => print!("{text}"),
        }
        Ok(())
    }
}
