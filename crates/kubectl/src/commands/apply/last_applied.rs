//! `kubectl apply view-last-applied|set-last-applied`.

use clap::Args;
use serde_json::{Value, json};

use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{DryRun, Output};
use crate::printers::json;
use crate::rest::Call;
use crate::three_way::{self, LAST_APPLIED};
use crate::yaml;

/// Flags of `view-last-applied`.
#[derive(Clone, Debug, Args)]
pub struct View {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Output format: json, yaml
    #[arg(short, long, default_value = "yaml")]
    output: String,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
}

/// Flags of `set-last-applied`.
#[derive(Clone, Debug, Args)]
pub struct Set {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Will create the annotation if the current object does not have it
    #[arg(long)]
    create_annotation: bool,
}

impl View {
    pub async fn run(self, cx: &Context) -> Result<()> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.all,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(cx, &self.words, &self.files, &narrow).await?;
        Error::collect(errors)?;
        for info in infos {
            let applied = three_way::last_applied(&info.object).ok_or_else(|| {
                Error::text(format!(
                    "no last-applied-configuration annotation found on resource: {}",
                    info.name
                ))
            })?;
            match self.output.as_str() {
                "json" => print!("{}", json(&applied)),
                "yaml" => print!("{}", yaml::to_string(&applied)),
                other => {
                    return Err(Error::text(format!(
                        "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Set {
    pub async fn run(self, cx: &Context) -> Result<()> {
        let (infos, errors) = self.files.infos(cx).await?;
        Error::collect(errors)?;
        for mut info in infos {
            let live = info.read(cx).await?;
            let before = &live["metadata"]["annotations"][LAST_APPLIED];
            if before.is_null() && !self.create_annotation {
                return Err(Error::text(format!(
                    "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                    info.name
                )));
            }
            three_way::annotate(&mut info.object);
            let wanted = info.object["metadata"]["annotations"][LAST_APPLIED].clone();
            let mut done: Value = live.clone();
            if self.output.dry_run()? == DryRun::No && wanted != *before {
                let patch = json!({"metadata": {"annotations": {LAST_APPLIED: wanted}}});
                let body = patch.to_string().into_bytes();
                let call =
                    Call::new("PATCH", info.path()).body("application/merge-patch+json", body);
                done = cx.rest().await?.json(&call).await?;
            }
            self.output.print(&info, &done, "configured")?;
        }
        Ok(())
    }
}
