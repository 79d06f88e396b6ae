//! `kubectl cordon`.

use clap::Args;
use serde_json::{Value, json};

use super::{Command, Run, modify};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::Output;

pub const COMMAND: Command = Command::of::<Flags>("cordon", &[], "Mark node as unschedulable");

/// Flags of `cordon`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    nodes: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

/// The nodes that a command's words or its selector name.
pub async fn chosen(
    cx: &Context,
    command: &str,
    nodes: &[String],
    selector: &str,
) -> Result<Vec<Info>> {
    if nodes.is_empty() && selector.is_empty() {
        return Err(Error::text(format!(
            "USAGE: {command} NODE [flags]\nSee 'kubectl {command} -h' for help and examples"
        )));
    }
    let names = nodes.iter().map(|n| n.trim_start_matches("node/"));
    let words: Vec<String> = std::iter::once("nodes")
        .chain(names)
        .map(String::from)
        .collect();
    let narrow = Narrow {
        labels: selector.to_string(),
        ..Narrow::default()
    };
    let (infos, errors) = builder::existing(cx, &words, &Files::default(), &narrow).await?;
    Error::collect(errors)?;
    Ok(infos)
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let infos = chosen(&cx, "cordon", &self.nodes, &self.selector).await?;
        modify::each(
            &cx,
            infos,
            "kubectl-cordon",
            &self.output,
            ("cordoned", "already cordoned"),
            |_, o: &mut Value| {
                o["spec"]["unschedulable"] = json!(true);
                Ok(())
            },
        )
        .await
    }
}
