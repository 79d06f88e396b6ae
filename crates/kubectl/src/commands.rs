//! The commands: one file each, one line in `COMMANDS`.

mod annotate;
mod api_resources;
mod api_versions;
mod apply;
mod attach;
mod auth;
mod autoscale;
mod certificate;
mod cluster_info;
mod completion;
mod config;
mod cordon;
mod cp;
mod create;
mod debug;
mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod get;
mod kustomize;
mod label;
mod logs;
mod modify;
mod options;
mod patch;
mod plugin;
mod port_forward;
mod proxy;
mod replace;
mod rollout;
mod run;
mod scale;
mod set;
mod taint;
mod top;
mod uncordon;
mod version;
mod wait;

use std::future::Future;
use std::pin::Pin;

use clap::ArgMatches;

use crate::context::Context;
use crate::error::Result;

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A command of kubectl.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub about: &'static str,
    /// Adds the command's flags.
    pub augment: fn(clap::Command) -> clap::Command,
    pub run: for<'a> fn(Context, &'a ArgMatches) -> Running<'a>,
}

/// What a command's flags can do.
pub trait Run: clap::Args {
    /// Carries the command out.
    fn run(self, cx: Context) -> impl Future<Output = Result<()>>;
}

// === Command ===

impl Command {
    /// A command by the type of its flags.
    pub const fn of<F: Run>(
        name: &'static str,
        aliases: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        Self {
            name,
            aliases,
            about,
            augment: F::augment_args,
            run: start::<F>,
        }
    }

    /// Whether a word of the command line names this command.
    pub fn is(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }
}

fn start<F: Run>(cx: Context, matches: &ArgMatches) -> Running<'_> {
    Box::pin(async move {
        let flags: F = crate::command_line::flags(matches)?;
        flags.run(cx).await
    })
}

/// Every command, in the order of help.
pub static COMMANDS: &[Command] = &[
    create::COMMAND,
    expose::COMMAND,
    run::COMMAND,
    set::COMMAND,
    explain::COMMAND,
    get::COMMAND,
    edit::COMMAND,
    delete::COMMAND,
    rollout::COMMAND,
    scale::COMMAND,
    autoscale::COMMAND,
    certificate::COMMAND,
    cluster_info::COMMAND,
    top::COMMAND,
    cordon::COMMAND,
    uncordon::COMMAND,
    drain::COMMAND,
    taint::COMMAND,
    describe::COMMAND,
    logs::COMMAND,
    attach::COMMAND,
    exec::COMMAND,
    port_forward::COMMAND,
    proxy::COMMAND,
    cp::COMMAND,
    debug::COMMAND,
    auth::COMMAND,
    events::COMMAND,
    diff::COMMAND,
    apply::COMMAND,
    patch::COMMAND,
    replace::COMMAND,
    wait::COMMAND,
    kustomize::COMMAND,
    label::COMMAND,
    annotate::COMMAND,
    completion::COMMAND,
    api_resources::COMMAND,
    api_versions::COMMAND,
    config::COMMAND,
    plugin::COMMAND,
    version::COMMAND,
    options::COMMAND,
];

/// Commands of upstream's kubectl that are not there yet: they say so.
pub static MISSING: &[&str] = &["alpha", "kuberc"];

/// Commands below others that are not there yet.
static MISSING_BELOW: &[(&str, &[&str])] =
    &[("apply", &["edit-last-applied"]), ("auth", &["reconcile"])];

/// Whether upstream has this command below another, and we have it not yet.
pub fn missing_below(command: &str, sub: &str) -> bool {
    let found = MISSING_BELOW.iter().find(|(name, _)| *name == command);
    found.is_some_and(|(_, all)| all.contains(&sub))
}
