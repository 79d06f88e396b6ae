//! `kubectl scale`.

use clap::Args;
use serde_json::json;

use super::{Command, Run};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>(
    "scale",
    &[],
    "Set a new size for a deployment, replica set, or replication controller",
);

/// Flags of `scale`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// The new desired number of replicas
    #[arg(long, allow_negative_numbers = true)]
    replicas: Option<i64>,
    /// Precondition for current size
    #[arg(long)]
    current_replicas: Option<i64>,
    /// Precondition for resource version
    #[arg(long)]
    resource_version: Option<String>,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let replicas = match self.replicas {
            Some(n) if n >= 0 => n,
            _ => {
                return Err(Error::text(
                    "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
                ));
            }
        };
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.all,
            ..Narrow::default()
        };
        let (infos, mut errors) = builder::existing(&cx, &self.words, &self.files, &narrow).await?;
        for info in infos {
            let current = info.object["spec"]["replicas"].as_i64();
            if let Some(expected) = self.current_replicas
                && current != Some(expected)
            {
                errors.push(Error::text(format!(
                    "Expected replicas to be {expected}, was {}",
                    current.unwrap_or(0)
                )));
                continue;
            }
            let mut patch = json!({"spec": {"replicas": replicas}});
            if let Some(v) = &self.resource_version {
                patch["metadata"]["resourceVersion"] = v.clone().into();
            }
            let mut call = Call::new("PATCH", format!("{}/scale", info.path())).body(
                "application/merge-patch+json",
                patch.to_string().into_bytes(),
            );
            let dry = self.output.dry_run()?;
            if dry == DryRun::Server {
                call = call.query("dryRun", "All");
            }
            if dry != DryRun::Client
                && let Err(e) = cx.rest().await?.json(&call).await
            {
                errors.push(e);
                continue;
            }
            self.output.print(&info, &info.object, "scaled")?;
        }
        Error::collect(errors)
    }
}
