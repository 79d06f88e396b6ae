//! `kubectl api-resources`. Upstream: kubectl/pkg/cmd/apiresources.

use clap::Args;

use super::{Command, Run};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::tabwriter::TabWriter;

pub const COMMAND: Command = Command::of::<Flags>(
    "api-resources",
    &[],
    "Print the supported API resources on the server",
);

/// Flags of `api-resources`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Output format: wide or name
    #[arg(short, long, default_value = "", hide_default_value = true)]
    output: String,
    /// Limit to resources in the specified API group
    #[arg(long)]
    api_group: Option<String>,
    /// If false, non-namespaced resources will be returned
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    namespaced: Option<bool>,
    /// Limit to resources that support the specified verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Limit to resources that belong to the specified categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
    /// Sort by name or kind
    #[arg(long, default_value = "", hide_default_value = true)]
    sort_by: String,
    /// Use a cached list of resources if available; nothing is cached
    #[arg(long)]
    cached: bool,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if !["", "wide", "name"].contains(&self.output.as_str()) {
            return Err(Error::text(format!(
                "--output {} is not available",
                self.output
            )));
        }
        let all = &cx.discovery().await?.resources;
        let mut shown: Vec<&Resource> = all.iter().filter(|r| self.wanted(r)).collect();
        match self.sort_by.as_str() {
            "kind" => shown.sort_by(|a, b| a.kind.cmp(&b.kind)),
            "name" => shown.sort_by(|a, b| a.plural.cmp(&b.plural)),
            _ => shown.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
        }
        if self.output == "name" {
            shown
                .iter()
                .for_each(|r| println!("{}", r.group_resource()));
            return Ok(());
        }
        let wide = self.output == "wide";
        let mut text = String::new();
        if !self.no_headers {
            text.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
            text.push_str(if wide { "\tVERBS\tCATEGORIES\n" } else { "\n" });
        }
        for r in shown {
            let line = [
                r.plural.clone(),
                r.short_names.join(","),
                r.api_version(),
                r.namespaced.to_string(),
                r.kind.clone(),
            ];
            text.push_str(&line.join("\t"));
            if wide {
                text.push_str(&format!(
                    "\t{}\t{}",
                    r.verbs.join(","),
                    r.categories.join(",")
                ));
            }
            text.push('\n');
        }
        print!("{}", TabWriter::table().layout(&text));
        Ok(())
    }
}

// === Flags ===

impl Flags {
    fn wanted(&self, r: &Resource) -> bool {
        r.preferred
            && !r.verbs.is_empty()
            && self.api_group.as_ref().is_none_or(|g| *g == r.group)
            && self.namespaced.is_none_or(|n| n == r.namespaced)
            && self.verbs.iter().all(|v| r.can(v))
            && self.categories.iter().all(|c| r.categories.contains(c))
    }
}
