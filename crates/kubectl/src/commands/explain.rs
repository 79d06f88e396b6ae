//! `kubectl explain`: what the server's OpenAPI v3 documents say of a type or a field.
//! Upstream: kubectl/pkg/explain/v2 (its plaintext template).

mod text;
mod wrap;

use clap::Args;

use super::{Command, Run};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::rest::Call;

pub const COMMAND: Command =
    Command::of::<Flags>("explain", &[], "Get documentation for a resource");

const SUGGESTION: &str =
    "Use \"kubectl api-resources\" for a complete list of supported resources.";

/// Flags of `explain`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    /// When true, print the name of all the fields recursively
    #[arg(long)]
    recursive: bool,
    /// Use given api-version (group/version) of the resource
    #[arg(long)]
    api_version: Option<String>,
    /// Format in which to render the schema: plaintext, plaintext-openapiv2
    #[arg(short, long, default_value = "plaintext")]
    output: String,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let asked = match self.words.as_slice() {
            [] => {
                return Err(Error::text(format!(
                    "You must specify the type of resource to explain. {SUGGESTION}\n"
                )));
            }
            [one] => one.trim_end_matches('.'),
            _ => {
                return Err(Error::text(
                    "We accept only this format: explain RESOURCE\n",
                ));
            }
        };
        if self.output != "plaintext" {
            return Err(Error::text(format!(
                "explain -o {} is not there yet in this version: only plaintext is",
                self.output
            )));
        }
        let (resource, fields) = self.parse(&cx, asked).await?;
        let root = if resource.group.is_empty() {
            format!("/openapi/v3/api/{}", resource.version)
        } else {
            format!("/openapi/v3/apis/{}/{}", resource.group, resource.version)
        };
        let document = match cx.rest().await?.json(&Call::get(root)).await {
            Err(e) if e.is_not_found() => {
                return Err(Error::text(format!(
                    "couldn't find resource for \"{}, Resource={}\"",
                    resource.api_version(),
                    resource.plural
                )));
            }
            other => other?,
        };
        print!(
            "{}",
            text::render(&document, &resource, &fields, self.recursive)?
        );
        Ok(())
    }
}

// === Flags ===

impl Flags {
    /// `TYPE[.GROUP][.FIELD…]`.
    async fn parse(&self, cx: &Context, asked: &str) -> Result<(Resource, Vec<String>)> {
        let discovery = cx.discovery().await?;
        let (word, rest) = asked.split_once('.').unwrap_or((asked, ""));
        let fields = |rest: &str| -> Vec<String> {
            let all = rest.split('.').filter(|f| !f.is_empty());
            all.map(ToString::to_string).collect()
        };
        if let Some(version) = &self.api_version {
            let kind = &discovery.resolve(word)?.plural;
            let found = discovery
                .resources
                .iter()
                .find(|r| r.plural == *kind && r.api_version() == *version);
            let found = found.ok_or_else(|| {
                Error::text(format!(
                    "couldn't find resource for \"{version}, Resource={kind}\""
                ))
            })?;
            return Ok((found.clone(), fields(rest)));
        }
        // `deployments.apps.spec`: the group is part of the type's name.
        let with_group = discovery.resources.iter().find(|r| {
            let group = r.group.as_str();
            let tail = rest.strip_prefix(group);
            r.preferred
                && !group.is_empty()
                && r.is_called(&word.to_lowercase())
                && tail.is_some_and(|t| t.is_empty() || t.starts_with('.'))
        });
        if let Some(r) = with_group {
            let rest = rest.strip_prefix(&r.group).unwrap_or(rest);
            return Ok((r.clone(), fields(rest)));
        }
        let found = discovery.find(word).ok_or_else(|| {
            Error::Plain(format!(
                "the server doesn't have a resource type \"{word}\""
            ))
        })?;
        Ok((found.clone(), fields(rest)))
    }
}
