//! `kubectl get`. Upstream: kubectl/pkg/cmd/get/get.go.

use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Command, Run};
use crate::builder::{self, Files, Info};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::{Error, Result};
use crate::limits;
use crate::object;
use crate::printers::Printer;
use crate::printers::sort::sort;
use crate::printers::table::{Options, TablePrinter};
use crate::rest::Call;

pub const COMMAND: Command = Command::of::<Flags>("get", &[], "Display one or many resources");

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// Flags of `get`.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    resources: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Output format: json, yaml, name, wide, jsonpath, custom-columns
    #[arg(short, long)]
    output: Option<String>,
    /// Template string
    #[arg(long)]
    template: Option<String>,
    /// List the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    field_selector: String,
    /// After listing/getting the requested object, watch for changes
    #[arg(short, long)]
    watch: bool,
    /// Watch for changes to the requested object(s), without listing/getting first
    #[arg(long)]
    watch_only: bool,
    /// Output watch event objects when --watch or --watch-only is used
    #[arg(long)]
    output_watch_events: bool,
    /// When printing, show all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Labels that are presented as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// If present, list the resource type for the requested object(s)
    #[arg(long)]
    show_kind: bool,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
    /// Sort list types using this field specification
    #[arg(long)]
    sort_by: Option<String>,
    /// Suppress NotFound errors
    #[arg(long)]
    ignore_not_found: bool,
    /// Return large lists in chunks rather than all at once
    #[arg(long, default_value_t = limits::PAGE)]
    chunk_size: usize,
    /// If true, keep the managedFields when printing objects in JSON or YAML format
    #[arg(long)]
    show_managed_fields: bool,
    /// The name of the subresource to operate on
    #[arg(long)]
    subresource: Option<String>,
    /// Raw URI to request from the server
    #[arg(long)]
    raw: Option<String>,
    /// If true, have the server return the appropriate table output
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    server_print: bool,
}

/// One request of a get: a collection, or an object by name.
struct Part {
    resource: Resource,
    namespace: Option<String>,
    name: Option<String>,
}

impl Run for Flags {
    async fn run(self, cx: Context) -> Result<()> {
        if let Some(path) = &self.raw {
            print!("{}", cx.rest().await?.text(&Call::get(path.clone())).await?);
            return Ok(());
        }
        let parts = self.parts(&cx).await?;
        if self.watch || self.watch_only {
            return self.watch(&cx, &parts).await;
        }
        match self.output.as_deref().unwrap_or_default() {
            "" | "wide" => self.tables(&cx, &parts).await,
            format => {
                let printer = Printer::parse(format, self.template.as_deref())?;
                self.objects(&cx, &parts, &printer).await
            }
        }
    }
}

// === Flags ===

impl Flags {
    async fn parts(&self, cx: &Context) -> Result<Vec<Part>> {
        if !self.files.is_empty() {
            let (infos, errors) = self.files.infos(cx).await?;
            Error::collect(errors)?;
            let part = |i: Info| Part {
                resource: i.resource,
                namespace: i.namespace,
                name: Some(i.name),
            };
            return Ok(infos.into_iter().map(part).collect());
        }
        if self.resources.is_empty() {
            return Err(Error::Plain("You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n\nerror: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples".into()));
        }
        let found = builder::targets(cx, &self.resources).await?;
        if !found.named.is_empty() && self.all_namespaces {
            return Err(Error::text(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        if !found.named.is_empty() && !self.selector.is_empty() {
            return Err(Error::text(
                "name cannot be provided when a selector is specified",
            ));
        }
        let own = cx.namespace()?;
        let place = |r: &Resource| (r.namespaced && !self.all_namespaces).then(|| own.clone());
        let types = found.types.into_iter().map(|r| (r, None));
        let named = found.named.into_iter().map(|(r, n)| (r, Some(n)));
        Ok(types
            .chain(named)
            .map(|(resource, name)| Part {
                namespace: place(&resource),
                resource,
                name,
            })
            .collect())
    }

    fn call(&self, part: &Part, next: &str) -> Call {
        let ns = part.namespace.as_deref();
        match &part.name {
            Some(name) => {
                let mut path = part.resource.object_path(ns, name);
                if let Some(sub) = &self.subresource {
                    path = format!("{path}/{sub}");
                }
                Call::get(path)
            }
            None => Call::get(part.resource.path(ns))
                .query("limit", self.chunk_size.to_string())
                .query_some("labelSelector", &self.selector)
                .query_some("fieldSelector", &self.field_selector)
                .query_some("continue", next),
        }
    }

    /// The pages of a part, as tables or as lists.
    async fn pages(&self, cx: &Context, part: &Part, tables: bool) -> Result<Vec<Value>> {
        let mut pages: Vec<Value> = Vec::new();
        let mut next = String::new();
        loop {
            let mut call = self.call(part, &next);
            if tables {
                call.accept = TABLE;
                if self.sort_by.is_some() {
                    call = call.query("includeObject", "Object");
                }
            }
            let page = match cx.rest().await?.json(&call).await {
                Err(e) if e.is_not_found() && self.ignore_not_found => return Ok(pages),
                Err(e) if part.name.is_none() => {
                    return Err(e.of_list(&part.resource, &self.selector, &self.field_selector));
                }
                other => other?,
            };
            let page = if tables { as_table(page) } else { page };
            next = object::text(&page, "/metadata/continue").to_string();
            pages.push(page);
            if next.is_empty() || part.name.is_some() {
                return Ok(pages);
            }
        }
    }

    fn options(&self, kind: Option<String>) -> Options {
        Options {
            no_headers: self.no_headers,
            wide: self.output.as_deref() == Some("wide"),
            show_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            with_namespace: self.all_namespaces,
            kind,
        }
    }

    async fn tables(&self, cx: &Context, parts: &[Part]) -> Result<()> {
        let (mut tables, errors) = self.read_tables(cx, parts).await;
        // Types that were read count, whether they have objects or not.
        let first = tables.first().map(|(r, _)| *r);
        let several = self.show_kind || tables.iter().any(|(r, _)| Some(*r) != first);
        tables.retain(|(_, whole)| !object::items(whole, "/rows").is_empty());
        let mut shown = 0;
        for (resource, whole) in &mut tables {
            let Some(Value::Array(rows)) = whole.get_mut("rows") else {
                continue;
            };
            if let Some(path) = &self.sort_by {
                sort(rows, path, true)?;
            }
            if shown > 0 {
                println!();
            }
            shown += rows.len();
            let mut options = self.options(several.then(|| resource.singular_name()));
            options.with_namespace &= resource.namespaced;
            print!("{}", TablePrinter::new(options).text(whole));
        }
        if shown == 0 && !self.ignore_not_found && errors.is_empty() {
            let namespaced = !self.all_namespaces && parts.iter().all(|p| p.resource.namespaced);
            if namespaced {
                eprintln!("No resources found in {} namespace.", cx.namespace()?);
            } else {
                eprintln!("No resources found");
            }
        }
        Error::collect(errors)
    }

    /// A table with rows for every type, types that follow each other in one.
    async fn read_tables<'a>(
        &self,
        cx: &Context,
        parts: &'a [Part],
    ) -> (Vec<(&'a Resource, Value)>, Vec<Error>) {
        let (mut all, mut errors): (Vec<(&Resource, Value)>, _) = (Vec::new(), Vec::new());
        for part in parts {
            let pages = match self.pages(cx, part, true).await {
                Ok(pages) => pages,
                Err(e) => {
                    errors.push(e);
                    continue;
                }
            };
            if all.last().is_none_or(|(r, _)| **r != part.resource) {
                all.push((&part.resource, json!({"rows": []})));
            }
            if let Some((_, whole)) = all.last_mut() {
                pages.into_iter().for_each(|p| add(whole, p));
            }
        }
        (all, errors)
    }

    async fn objects(&self, cx: &Context, parts: &[Part], printer: &Printer) -> Result<()> {
        let mut errors = Vec::new();
        let mut items: Vec<Value> = Vec::new();
        for part in parts {
            match self.pages(cx, part, false).await {
                Ok(pages) => pages.into_iter().for_each(|p| gather(&mut items, p, part)),
                Err(e) => errors.push(e),
            }
        }
        if let Some(path) = &self.sort_by {
            sort(&mut items, path, false)?;
        }
        let single = parts.len() == 1 && parts[0].name.is_some();
        let whole = if single {
            items.into_iter().next()
        } else if items.is_empty() && !errors.is_empty() {
            None
        } else {
            Some(json!({"apiVersion": "v1", "kind": "List", "items": items,
                "metadata": {"resourceVersion": ""}}))
        };
        if let Some(whole) = whole {
            if let (Printer::Columns(columns), true) = (printer, self.no_headers) {
                print!("{}", columns.render(&whole, true)?);
            } else {
                print!("{}", printer.object(&whole, self.show_managed_fields)?);
            }
        }
        Error::collect(errors)
    }

    async fn watch(&self, cx: &Context, parts: &[Part]) -> Result<()> {
        let [part] = parts else {
            return Err(Error::text(
                "watch is only supported on individual resources and resource collections - more than 1 resource was found",
            ));
        };
        let format = self.output.as_deref().unwrap_or_default();
        let printer = match format {
            "" | "wide" => None,
            format => Some(Printer::parse(format, self.template.as_deref())?),
        };
        let mut tables =
            TablePrinter::new(self.options(self.show_kind.then(|| part.resource.singular_name())));
        let pages = self.pages(cx, part, printer.is_none()).await?;
        let version = pages
            .last()
            .map(|p| object::text(p, "/metadata/resourceVersion").to_string())
            .unwrap_or_default();
        for page in pages {
            if self.watch_only {
                continue;
            }
            match &printer {
                None if object::items(&page, "/rows").is_empty() => {}
                None => print!("{}", tables.text(&with_events(&page, self.event("ADDED")))),
                Some(p) => {
                    let mut items = Vec::new();
                    gather(&mut items, page, part);
                    for item in items {
                        self.show(p, &item, "ADDED")?;
                    }
                }
            }
        }
        let mut call = Call::get(part.resource.path(part.namespace.as_deref()))
            .query("watch", "true")
            .query_some("resourceVersion", &version)
            .query_some("labelSelector", &self.selector);
        let fields = match &part.name {
            Some(name) => format!("metadata.name={name}"),
            None => self.field_selector.clone(),
        };
        call = call.query_some("fieldSelector", &fields);
        if printer.is_none() {
            call.accept = TABLE;
        }
        let mut events = cx.rest().await?.watch(&call).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let kind = object::text(&event, "/type");
            match (kind, &printer) {
                ("BOOKMARK", _) => {}
                ("ERROR", _) => return Err(Error::status(event["object"].clone())),
                (_, None) => print!(
                    "{}",
                    tables.text(&with_events(&event["object"], self.event(kind)))
                ),
                (_, Some(p)) => self.show(p, &event["object"], kind)?,
            }
            use std::io::Write;
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    fn event<'a>(&self, kind: &'a str) -> Option<&'a str> {
        self.output_watch_events.then_some(kind)
    }

    fn show(&self, printer: &Printer, object: &Value, kind: &str) -> Result<()> {
        let object = match self.event(kind) {
            Some(kind) => json!({"type": kind, "object": object}),
            None => object.clone(),
        };
        // Documents of a stream are told apart.
        if matches!(printer, Printer::Yaml) {
            println!("---");
        }
        print!("{}", printer.object(&object, self.show_managed_fields)?);
        Ok(())
    }
}

/// A table with the event's type as its first column.
fn with_events(table: &Value, kind: Option<&str>) -> Value {
    let mut table = table.clone();
    let Some(kind) = kind else {
        return table;
    };
    if let Some(Value::Array(columns)) = table.get_mut("columnDefinitions")
        && !columns.is_empty()
    {
        columns.insert(0, json!({"name": "Event"}));
    }
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        if let Some(Value::Array(cells)) = row.get_mut("cells") {
            cells.insert(0, kind.into());
        }
    }
    table
}

/// An answer that is no table becomes one of names and ages.
fn as_table(page: Value) -> Value {
    if page["rows"].is_array() || page["metadata"]["name"].is_null() {
        return page;
    }
    let age = match page["metadata"]["creationTimestamp"].as_str() {
        Some(then) => crate::describe::since(&then.into()),
        None => "<unknown>".into(),
    };
    json!({"columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Age"}],
        "rows": [{"cells": [page["metadata"]["name"], age], "object": {"metadata": page["metadata"]}}]})
}

fn add(whole: &mut Value, mut page: Value) {
    let rows = page["rows"].take();
    if whole.get("columnDefinitions").is_none() {
        whole["columnDefinitions"] = page["columnDefinitions"].take();
    }
    if let (Some(Value::Array(all)), Value::Array(rows)) = (whole.get_mut("rows"), rows) {
        all.extend(rows);
    }
}

fn gather(items: &mut Vec<Value>, mut page: Value, part: &Part) {
    if part.name.is_some() {
        items.push(page);
        return;
    }
    let Value::Array(list) = page["items"].take() else {
        return;
    };
    for mut item in list {
        item["apiVersion"] = part.resource.api_version().into();
        item["kind"] = part.resource.kind.clone().into();
        items.push(item);
    }
}
