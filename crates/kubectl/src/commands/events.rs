//! `kubectl events`. Upstream: kubectl/pkg/cmd/events.

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::context::Context;
use crate::describe::since;
use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::printers::Printer;
use crate::rest::Call;
use crate::tabwriter::TabWriter;

pub const COMMAND: Command = Command::of::<Flags>("events", &[], "List events");

/// Flags of `events`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Filter events to only those pertaining to the specified resource, as TYPE/NAME
    #[arg(long = "for")]
    about: Option<String>,
    /// After listing the requested events, watch for more events
    #[arg(short, long)]
    watch: bool,
    /// Output only events of given types
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// If present, print output without headers
    #[arg(long)]
    no_headers: bool,
    /// Output format: json, yaml
    #[arg(short, long)]
    output: Option<String>,
    /// Return large lists in chunks rather than all at once
    #[arg(long, default_value_t = limits::PAGE)]
    chunk_size: usize,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        for kind in &self.types {
            if !["normal", "warning"].contains(&kind.to_lowercase().as_str()) {
                return Err(Error::text(
                    "valid --types are Normal or Warning".to_string(),
                ));
            }
        }
        let path = match self.all_namespaces {
            true => "/api/v1/events".to_string(),
            false => format!("/api/v1/namespaces/{}/events", cx.namespace()?),
        };
        let mut call = Call::get(path).query_some("fieldSelector", &self.fields(&cx).await?);
        let (mut all, version) = self.list(&cx, &call).await?;
        all.sort_by_key(|e| last_seen(e).to_string());
        if let Some(format) = &self.output {
            let printer = Printer::parse(format, None)?;
            let list = json!({"apiVersion": "v1", "kind": "List", "items": all, "metadata": {}});
            print!("{}", printer.object(&list, false)?);
            return Ok(());
        }
        if all.is_empty() && !self.watch {
            match self.all_namespaces {
                true => eprintln!("No events found."),
                false => eprintln!("No events found in {} namespace.", cx.namespace()?),
            }
            return Ok(());
        }
        let mut writer = TabWriter::table();
        let mut text = String::new();
        if !self.no_headers {
            text.push_str(if self.all_namespaces {
                "NAMESPACE\t"
            } else {
                ""
            });
            text.push_str("LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE\n");
        }
        all.iter().for_each(|e| text.push_str(&self.row(e)));
        print!("{}", writer.layout(&text));
        if !self.watch {
            return Ok(());
        }
        call = call
            .query("watch", "true")
            .query("resourceVersion", version);
        let mut events = cx.rest().await?.watch(&call).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            match object::text(&event, "/type") {
                "ERROR" => return Err(Error::status(event["object"].clone())),
                "ADDED" | "MODIFIED" if self.wants(&event["object"]) => {
                    print!("{}", writer.layout(&self.row(&event["object"])));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn last_seen(e: &Value) -> &str {
    let all = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
    ];
    let all = all.map(|p| object::text(e, p));
    all.into_iter().find(|t| !t.is_empty()).unwrap_or_default()
}

// === Flags ===

impl Flags {
    async fn fields(&self, cx: &Context) -> Result<String> {
        let Some(about) = &self.about else {
            return Ok(String::new());
        };
        let Some((kind, name)) = about.split_once('/') else {
            return Err(Error::text("--for must be in resource/name form"));
        };
        let r = cx.discovery().await?.resolve(kind)?;
        Ok(format!(
            "involvedObject.kind={},involvedObject.apiVersion={},involvedObject.name={name}",
            r.kind,
            r.api_version()
        ))
    }

    async fn list(&self, cx: &Context, call: &Call) -> Result<(Vec<Value>, String)> {
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let page = call
                .clone()
                .query("limit", self.chunk_size.to_string())
                .query_some("continue", &next);
            let page = cx.rest().await?.json(&page).await?;
            let items = object::items(&page, "/items").iter();
            all.extend(items.filter(|e| self.wants(e)).cloned());
            next = object::text(&page, "/metadata/continue").to_string();
            if next.is_empty() {
                return Ok((all, object::text(&page, "/metadata/resourceVersion").into()));
            }
        }
    }

    fn wants(&self, e: &Value) -> bool {
        let kind = object::text(e, "/type");
        self.types.is_empty() || self.types.iter().any(|t| t.eq_ignore_ascii_case(kind))
    }

    fn row(&self, e: &Value) -> String {
        let mut row = String::new();
        if self.all_namespaces {
            row.push_str(&format!("{}\t", object::namespace(e)));
        }
        let count = e["series"]["count"].as_i64().or(e["count"].as_i64());
        let first = match object::text(e, "/firstTimestamp") {
            "" => &e["eventTime"],
            _ => &e["firstTimestamp"],
        };
        let seen = since(&last_seen(e).into());
        let seen = match count.unwrap_or(1) {
            0 | 1 => seen,
            n => format!("{seen} (x{n} over {})", since(first)),
        };
        let of = &e["involvedObject"];
        row.push_str(&format!(
            "{seen}\t{}\t{}\t{}/{}\t{}\n",
            object::text(e, "/type"),
            object::text(e, "/reason"),
            object::text(of, "/kind"),
            object::text(of, "/name"),
            object::text(e, "/message").trim()
        ));
        row
    }
}
