//! `kubectl describe`. The texts are in `crate::describe`.

use clap::Args;

use super::{Command, Run};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::Context;
use crate::describe;
use crate::error::{Error, Result};

pub const COMMAND: Command = Command::of::<Flags>(
    "describe",
    &[],
    "Show details of a specific resource or group of resources",
);

/// Flags of `describe`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Display events related to the described object; true for a single object, false for several
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    show_events: Option<bool>,
    /// Return large lists in chunks rather than all at once; accepted, the server's pages are used
    #[arg(long, default_value_t = crate::limits::PAGE)]
    chunk_size: usize,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let narrow = Narrow {
            labels: self.selector.clone(),
            all_namespaces: self.all_namespaces,
            all: true,
            ..Narrow::default()
        };
        let (mut infos, mut errors) =
            builder::existing(&cx, &self.words, &self.files, &narrow).await?;
        let mut by_prefix = false;
        if infos.is_empty() && errors.iter().all(Error::is_not_found) && !errors.is_empty() {
            infos = self.by_prefix(&cx).await?;
            if !infos.is_empty() {
                by_prefix = true;
                errors.clear();
            }
        }
        if infos.is_empty() && errors.is_empty() {
            if self.all_namespaces {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {} namespace.", cx.namespace()?);
            }
        }
        let with_events = self.show_events.unwrap_or(infos.len() == 1 && !by_prefix);
        for (i, info) in infos.iter().enumerate() {
            if i > 0 && !by_prefix {
                println!("\n");
            }
            match describe::text(&cx, info, with_events).await {
                Ok(text) if by_prefix => println!("{text}"),
                Ok(text) => print!("{text}"),
                Err(e) => errors.push(e),
            }
        }
        Error::collect(errors)
    }
}

// === Flags ===

impl Flags {
    /// `TYPE PREFIX`: the objects whose names begin so, where none has the name itself.
    async fn by_prefix(&self, cx: &Context) -> Result<Vec<Info>> {
        let [kind, prefix] = self.words.as_slice() else {
            return Ok(Vec::new());
        };
        let resource = cx.discovery().await?.resolve(kind)?.clone();
        let mut all = builder::list(cx, &resource, &Narrow::default()).await?;
        all.retain(|i| i.name.starts_with(prefix.as_str()));
        Ok(all)
    }
}
