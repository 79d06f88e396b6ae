//! `kubectl label`.

use clap::Args;
use serde_json::json;

use super::{Command, Run, modify};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::Output;

pub const COMMAND: Command = Command::of::<Flags>("label", &[], "Update the labels on a resource");

/// Flags of `label`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// If true, allow labels to be overwritten
    #[arg(long)]
    overwrite: bool,
    /// If true, display the labels for a given resource
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
            return Err(Error::text("at least one label update is required"));
        }
        let (set, removed) = modify::pairs(&changes, "label")?;
        for (key, value) in &set {
            check(key, value)?;
        }
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
                for (k, v) in object::pairs(&info.object["metadata"]["labels"]) {
                    println!("{k}={v}");
                }
            }
            return Ok(());
        }
        let deed = if set.is_empty() {
            "unlabeled"
        } else {
            "labeled"
        };
        modify::each(
            &cx,
            infos,
            "kubectl-label",
            &self.output,
            (deed, "not labeled"),
            |_, o| {
                for (k, v) in &set {
                    let old = o["metadata"]["labels"][k].as_str();
                    if let Some(old) = old.filter(|old| old != v)
                        && !self.overwrite
                    {
                        return Err(Error::text(format!(
                            "'{k}' already has a value ({old}), and --overwrite is false"
                        )));
                    }
                    o["metadata"]["labels"][k] = json!(v);
                }
                if let Some(all) = o["metadata"]["labels"].as_object_mut() {
                    for k in &removed {
                        if all.remove(k).is_none() {
                            println!("label \"{k}\" not found.");
                        }
                    }
                } else {
                    for k in &removed {
                        println!("label \"{k}\" not found.");
                    }
                }
                Ok(())
            },
        )
        .await
    }
}

/// A label that no server would take is refused before it is asked.
fn check(key: &str, value: &str) -> Result<()> {
    if let Some(why) = api::names::qualified_name(key).into_iter().next() {
        return Err(Error::text(format!(
            "invalid label key \"{key}={value}\": {why}"
        )));
    }
    match api::names::label_value(value).into_iter().next() {
        Some(why) => Err(Error::text(format!(
            "invalid label value: \"{key}={value}\": {why}"
        ))),
        None => Ok(()),
    }
}
