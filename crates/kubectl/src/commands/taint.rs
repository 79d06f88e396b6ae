//! `kubectl taint`. Upstream: kubectl/pkg/cmd/taint.

use clap::Args;
use serde_json::{Value, json};

use super::{Command, Run, modify};
use crate::builder::{self, Files, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::object;
use crate::output::Output;

pub const COMMAND: Command =
    Command::of::<Flags>("taint", &[], "Update the taints on one or more nodes");

/// Flags of `taint`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    output: Output,
    /// If true, allow taints to be overwritten
    #[arg(long)]
    overwrite: bool,
    /// Select all nodes in the cluster
    #[arg(long)]
    all: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let change = |w: &&String| w.contains('=') || w.ends_with('-') || w.contains(':');
        let changes: Vec<String> = self.words.iter().filter(change).cloned().collect();
        let targets: Vec<String> = self.words.iter().filter(|w| !change(w)).cloned().collect();
        if changes.is_empty() {
            return Err(Error::text("at least one taint update is required"));
        }
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.all,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(&cx, &targets, &Files::default(), &narrow).await?;
        Error::collect(errors)?;
        let removes = changes.iter().all(|c| c.ends_with('-'));
        let deed = if removes { "untainted" } else { "tainted" };
        modify::each(
            &cx,
            infos,
            "kubectl-taint",
            &self.output,
            (deed, deed),
            |_, o| changes.iter().try_for_each(|c| taint(o, c, self.overwrite)),
        )
        .await
    }
}

fn taint(node: &mut Value, change: &str, overwrite: bool) -> Result<()> {
    let mut taints = object::items(node, "/spec/taints").to_vec();
    let (text, removes) = match change.strip_suffix('-') {
        Some(text) => (text, true),
        None => (change, false),
    };
    let (pair, effect) = text.split_once(':').unwrap_or((text, ""));
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !effect.is_empty() && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(Error::text(format!(
            "invalid taint effect: {effect}, unsupported taint effect"
        )));
    }
    let same = |t: &Value| t["key"] == key && (effect.is_empty() || t["effect"] == effect);
    if removes {
        if !taints.iter().any(same) {
            return Err(Error::text(format!("taint \"{text}\" not found")));
        }
        taints.retain(|t| !same(t));
    } else {
        if effect.is_empty() {
            return Err(Error::text(format!("invalid taint spec: {change}")));
        }
        if taints.iter().any(same) && !overwrite {
            return Err(Error::text(format!(
                "node {} already has {key} taint(s) with same effect(s) and --overwrite is false",
                object::name(node)
            )));
        }
        taints.retain(|t| !same(t));
        let mut new = json!({"key": key, "effect": effect});
        if !value.is_empty() {
            new["value"] = value.into();
        }
        taints.insert(0, new);
    }
    // Nodes without taints have no list of them.
    if taints.is_empty() {
        if let Some(spec) = node["spec"].as_object_mut() {
            spec.remove("taints");
        }
    } else {
        node["spec"]["taints"] = taints.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_set_and_removed() {
        let mut node = json!({"metadata": {"name": "n"}, "spec": {}});
        taint(&mut node, "k=v:NoSchedule", false).unwrap();
        assert_eq!(
            node["spec"]["taints"],
            json!([{"key": "k", "value": "v", "effect": "NoSchedule"}])
        );
        assert!(taint(&mut node, "k=w:NoSchedule", false).is_err());
        taint(&mut node, "k-", false).unwrap();
        assert_eq!(node["spec"], json!({}));
        assert!(taint(&mut node, "k=v:Foo", false).is_err());
    }
}
