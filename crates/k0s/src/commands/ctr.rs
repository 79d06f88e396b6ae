//! `k0s ctr`: the images of this node, in the words of containerd's ctr.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use cluster::Paths;
use cluster::ctr::{Command, on_node};

use crate::cli::Common;

/// Flags and commands of `k0s ctr`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Namespace to use with commands; only k8s.io exists
    #[arg(short, long, default_value = "k8s.io", global = true)]
    namespace: String,
    #[command(subcommand)]
    command: Group,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Group {
    /// Manage images
    #[command(subcommand, aliases = ["image", "i"])]
    Images(Images),
}

#[derive(Debug, Subcommand)]
enum Images {
    /// Import images
    Import { file: PathBuf },
    /// List images known to containerd
    #[command(alias = "ls")]
    List {
        /// Print only the image refs
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove one or more images by reference
    #[command(aliases = ["del", "remove", "rm"])]
    Delete {
        #[arg(required = true)]
        references: Vec<String>,
    },
    /// Pull an image from a remote
    Pull { reference: String },
    /// Tag an image
    Tag {
        from: String,
        #[arg(required = true)]
        to: Vec<String>,
    },
}

/// Runs the command on the running node, or on its store on disk.
pub fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    if flags.namespace != "k8s.io" {
        bail!("namespace {:?}: not found", flags.namespace);
    }
    let Group::Images(command) = flags.command;
    let command = match command {
        Images::Import { file } => Command::Import {
            file: std::path::absolute(file)?,
        },
        Images::List { quiet } => Command::List { quiet },
        Images::Delete { references } => Command::Remove { references },
        Images::Pull { reference } => Command::Pull { reference },
        Images::Tag { from, to } => Command::Tag { from, to },
    };
    let paths = Paths::new(&std::path::absolute(&flags.common.data_dir)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(on_node(&paths, &command));
    print!("{}", done.map_err(|e| anyhow!(e))?);
    Ok(ExitCode::SUCCESS)
}
