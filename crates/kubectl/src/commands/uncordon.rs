//! `kubectl uncordon`.

use clap::Args;
use serde_json::Value;

use super::{Command, Run, modify};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
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
        if self.nodes.is_empty() && self.selector.is_empty() {
            return Err(Error::text(
                "USAGE: uncordon NODE [flags]\nSee 'kubectl uncordon -h' for help and examples",
            ));
        }
        let mut words = vec!["nodes".to_string()];
        words.extend(
            self.nodes
                .iter()
                .map(|n| n.trim_start_matches("node/").to_string()),
        );
        let narrow = Narrow {
            labels: self.selector.clone(),
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(&cx, &words, &Files::default(), &narrow).await?;
        Error::collect(errors)?;
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
