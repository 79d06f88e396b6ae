//! `kubectl wait --for=condition=…|delete|create|jsonpath=…`. Upstream: kubectl/pkg/cmd/wait.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use serde_json::Value;

use super::{Command, Run, delete};
use crate::builder::{self, Files, Info, Narrow};
use crate::context::{Context, duration};
use crate::error::{Error, Result};
use crate::object;
use crate::printers::jsonpath::{Template, relaxed};
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>(
    "wait",
    &[],
    "Wait for a specific condition on one or many resources",
);

/// Flags of `wait`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The condition to wait on: [create|delete|condition=condition-name[=condition-value]|jsonpath='{JSONPath expression}'=[JSONPath value]]
    #[arg(long = "for", required = true)]
    wanted: Vec<String>,
    /// The length of time to wait before giving up
    #[arg(long, default_value = "30s", allow_negative_numbers = true)]
    timeout: String,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
}

enum Wanted {
    Delete,
    Create,
    Condition(String, String),
    Path(Template, Option<String>),
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        let limit = if self.timeout.starts_with('-') {
            Duration::from_secs(7 * 24 * 3600)
        } else {
            duration(&self.timeout)?
        };
        let deadline = tokio::time::Instant::now() + limit;
        for text in &self.wanted {
            let wanted = parse(text)?;
            if let Wanted::Create = wanted {
                let seen = tokio::time::timeout_at(deadline, self.created(&cx)).await;
                seen.map_err(|_| Error::text("timed out waiting for the condition"))??;
                continue;
            }
            let infos = self.infos(&cx, &wanted).await?;
            let mut errors = Vec::new();
            for info in &infos {
                match tokio::time::timeout_at(deadline, one(&cx, info, &wanted)).await {
                    Ok(result) => errors.extend(result.err()),
                    Err(_) => errors.push(Error::text(format!(
                        "timed out waiting for the condition on {}/{}",
                        info.resource.plural, info.name
                    ))),
                }
            }
            Error::collect(errors)?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Wanted> {
    let lower = text.to_lowercase();
    if lower == "delete" {
        return Ok(Wanted::Delete);
    }
    if lower == "create" {
        return Ok(Wanted::Create);
    }
    if let Some(condition) = text.strip_prefix("condition=") {
        let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
        return Ok(Wanted::Condition(name.to_lowercase(), value.to_lowercase()));
    }
    if let Some(path) = text.strip_prefix("jsonpath=") {
        let path = path.trim_matches('\'');
        let (path, value) = match path.find("}=") {
            Some(at) => (
                &path[..=at],
                Some(path[at + 2..].trim_matches(['\'', '"']).to_string()),
            ),
            None if path.ends_with('}') => (path, None),
            None => match path.split_once('=') {
                Some((path, value)) => (path, Some(value.to_string())),
                None => (path, None),
            },
        };
        return Ok(Wanted::Path(Template::parse(&relaxed(path)?)?, value));
    }
    Err(Error::text(format!("unrecognized condition: \"{text}\"")))
}

// === Flags ===

impl Flags {
    fn narrow(&self) -> Narrow {
        Narrow {
            labels: self.selector.clone(),
            fields: self.field_selector.clone(),
            all_namespaces: self.all_namespaces,
            all: self.all,
        }
    }

    async fn infos(&self, cx: &Context, wanted: &Wanted) -> Result<Vec<Info>> {
        let (infos, errors) =
            builder::existing(cx, &self.words, &self.files, &self.narrow()).await?;
        let gone_is_good = |e: &Error| matches!(wanted, Wanted::Delete) && e.is_not_found();
        Error::collect(errors.into_iter().filter(|e| !gone_is_good(e)).collect())?;
        if infos.is_empty() && !matches!(wanted, Wanted::Delete) {
            return Err(Error::text("no matching resources found"));
        }
        Ok(infos)
    }

    /// Returns once what is named exists.
    async fn created(&self, cx: &Context) -> Result<()> {
        loop {
            let found = builder::existing(cx, &self.words, &self.files, &self.narrow()).await?;
            if found.1.iter().all(Error::is_not_found) && !found.0.is_empty() && found.1.is_empty()
            {
                for info in &found.0 {
                    println!("{} condition met", info.display());
                }
                return Ok(());
            }
            Error::collect(found.1.into_iter().filter(|e| !e.is_not_found()).collect())?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn one(cx: &Context, info: &Info, wanted: &Wanted) -> Result<()> {
    if let Wanted::Delete = wanted {
        delete::gone(cx, info, object::text(&info.object, "/metadata/uid")).await?;
    } else if !holds(&info.object, wanted)? {
        let rest = cx.rest().await?;
        let call = Call::get(info.resource.path(info.namespace.as_deref()))
            .query("watch", "true")
            .query("fieldSelector", format!("metadata.name={}", info.name));
        'watch: loop {
            let mut events = rest.watch(&call).await?;
            while let Some(event) = events.next().await {
                let event = event?;
                match object::text(&event, "/type") {
                    "ADDED" | "MODIFIED" if holds(&event["object"], wanted)? => break 'watch,
                    "ERROR" => break,
                    _ => {}
                }
            }
        }
    }
    println!("{} condition met", info.display());
    Ok(())
}

fn holds(o: &Value, wanted: &Wanted) -> Result<bool> {
    match wanted {
        Wanted::Delete | Wanted::Create => Ok(false),
        Wanted::Condition(name, value) => {
            let generation = o["metadata"]["generation"].as_i64();
            let found = object::items(o, "/status/conditions")
                .iter()
                .find(|c| object::text(c, "/type").to_lowercase() == *name);
            Ok(found.is_some_and(|c| {
                let observed = c["observedGeneration"]
                    .as_i64()
                    .or(o["status"]["observedGeneration"].as_i64());
                let old = matches!((generation, observed), (Some(g), Some(o)) if o < g);
                !old && object::text(c, "/status").to_lowercase() == *value
            }))
        }
        Wanted::Path(template, value) => {
            let found = template.values(o)?;
            Ok(match value {
                None => !found.is_empty(),
                Some(value) => found.iter().any(|v| object::plain(v) == *value),
            })
        }
    }
}
