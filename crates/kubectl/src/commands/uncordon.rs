//! `kubectl uncordon`.

use clap::Args;
use serde_json::Value;

use super::{Command, Run, cordon, modify};
use crate::context::Context;
use crate::error::Result;
use crate::output::Output;

pub const COMMAND: Command = Command::of::<Flags>("uncordon", &[], "Mark node as schedulable");

/// Flags of `uncordon`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    nodes: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let infos = cordon::chosen(&cx, "uncordon", &self.nodes, &self.selector).await?;
        modify::each(
            &cx,
            infos,
            "kubectl-uncordon",
            &self.output,
            ("uncordoned", "already uncordoned"),
            |_, o: &mut Value| {
                if let Some(spec) = o["spec"].as_object_mut() {
                    spec.remove("unschedulable");
                }
                Ok(())
            },
        )
        .await
    }
}
