//! `kubectl annotate`.

use clap::Args;
use serde_json::json;

use super::{Command, Run, modify};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::Output;

pub const COMMAND: Command =
    Command::of::<Flags>("annotate", &[], "Update the annotations on a resource");

/// Flags of `annotate`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// If true, allow annotations to be overwritten
    #[arg(long)]
    overwrite: bool,
    /// If true, display the annotations for a given resource
    #[arg(long)]
    list: bool,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If true, check the specified action in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let change = |w: &&String| w.contains('=') || w.ends_with('-');
        let changes: Vec<String> = self.words.iter().filter(change).cloned().collect();
        let targets: Vec<String> = self.words.iter().filter(|w| !change(w)).cloned().collect();
        if changes.is_empty() && !self.list {
            return Err(Error::text("at least one annotation update is required"));
        }
        let (set, removed) = modify::pairs(&changes, "annotation")?;
        let narrow = Narrow {
            labels: self.selector.clone(),
            fields: self.field_selector.clone(),
            all_namespaces: self.all_namespaces,
            all: self.all,
        };
        let (infos, errors) = builder::existing(&cx, &targets, &self.files, &narrow).await?;
        Error::collect(errors)?;
        if self.list {
            for info in &infos {
                for (k, v) in object::pairs(&info.object["metadata"]["annotations"]) {
                    println!("{k}={v}");
                }
            }
            return Ok(());
        }
        modify::each(
            &cx,
            infos,
            "kubectl-annotate",
            &self.output,
            ("annotated", "annotated"),
            |_, o| {
                for (k, v) in &set {
                    let old = o["metadata"]["annotations"][k].as_str();
                    if let Some(old) = old.filter(|old| old != v)
                        && !self.overwrite
                    {
                        return Err(Error::text(format!(
                            "--overwrite is false but found the following declared annotation(s): '{k}' already has a value ({old})"
                        )));
                    }
                    o["metadata"]["annotations"][k] = json!(v);
                }
                if let Some(all) = o["metadata"]["annotations"].as_object_mut() {
                    removed.iter().for_each(|k| {
                        all.remove(k);
                    });
                }
                Ok(())
            },
        )
        .await
    }
}
