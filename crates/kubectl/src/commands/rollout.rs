//! `kubectl rollout`. Upstream: kubectl/pkg/cmd/rollout, polymorphichelpers.

mod history;
mod status;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Command, Run, modify};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::Output;

pub const COMMAND: Command =
    Command::of::<Flags>("rollout", &[], "Manage the rollout of a resource");

/// Flags of `rollout`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Show the status of the rollout
    Status(StatusFlags),
    /// View rollout history
    History(Target),
    /// Undo a previous rollout
    Undo(Target),
    /// Restart a resource
    Restart(Target),
    /// Mark the provided resource as paused
    Pause(Target),
    /// Resume a paused resource
    Resume(Target),
}

/// What most of the subcommands take.
#[derive(Clone, Debug, Args)]
pub struct Target {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// The revision: details of it, or where to go back to; 0 is the last one
    #[arg(long, visible_alias = "revision", default_value_t = 0)]
    to_revision: i64,
}

/// Flags of `rollout status`.
#[derive(Clone, Debug, Args)]
pub struct StatusFlags {
    #[command(flatten)]
    target: Target,
    /// Watch the status of the rollout until it's done
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
    /// The length of time to wait before ending watch, zero means never
    #[arg(long, default_value = "0s")]
    timeout: String,
}

impl Target {
    async fn infos(&self, cx: &Context) -> Result<Vec<Info>> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all: self.words.iter().all(|w| !w.contains('/')) && self.words.len() == 1,
            ..Narrow::default()
        };
        let (infos, errors) = builder::existing(cx, &self.words, &self.files, &narrow).await?;
        Error::collect(errors)?;
        Ok(infos)
    }
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        match self.what {
            What::Status(f) => {
                status::run(&cx, &f.target.infos(&cx).await?, f.watch, &f.timeout).await
            }
            What::History(t) => history::show(&cx, &t.infos(&cx).await?, t.to_revision).await,
            What::Undo(t) => {
                history::undo(&cx, &t.infos(&cx).await?, &t.output, t.to_revision).await
            }
            What::Restart(t) => restart(&cx, t).await,
            What::Pause(t) => pause(&cx, t, true).await,
            What::Resume(t) => pause(&cx, t, false).await,
        }
    }
}

async fn restart(cx: &Context, t: Target) -> Result<()> {
    let now = jiff::Timestamp::now();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let infos = t.infos(cx).await?;
    modify::each(
        cx,
        infos,
        "kubectl-rollout",
        &t.output,
        ("restarted", "restarted"),
        |info, o| {
            let kind = info.resource.kind.as_str();
            if !["Deployment", "DaemonSet", "StatefulSet"].contains(&kind) {
                return Err(Error::text(format!(
                    "{} restarting is not supported",
                    info.resource.plural
                )));
            }
            if o["spec"]["paused"] == true {
                return Err(Error::text(
                    "can't restart paused deployment (run rollout resume first)",
                ));
            }
            o["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] =
                json!(now);
            Ok(())
        },
    )
    .await
}

async fn pause(cx: &Context, t: Target, paused: bool) -> Result<()> {
    let (deed, verb) = if paused {
        ("paused", "pausing")
    } else {
        ("resumed", "resuming")
    };
    let infos = t.infos(cx).await?;
    modify::each(
        cx,
        infos,
        "kubectl-rollout",
        &t.output,
        (deed, deed),
        |info, o| {
            if info.resource.kind != "Deployment" {
                return Err(Error::text(format!(
                    "{} \"{}\" {verb} is not supported",
                    info.resource.group_resource(),
                    info.name
                )));
            }
            if (o["spec"]["paused"] == true) == paused {
                let text = if paused {
                    "is already paused"
                } else {
                    "is not paused"
                };
                return Err(Error::text(format!(
                    "deployments.apps \"{}\" {text}",
                    info.name
                )));
            }
            if paused {
                o["spec"]["paused"] = true.into();
            } else if let Some(spec) = o["spec"].as_object_mut() {
                spec.remove("paused");
            }
            Ok(())
        },
    )
    .await
}
