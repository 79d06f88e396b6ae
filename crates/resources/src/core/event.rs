//! Event, core/v1. Upstream: pkg/registry/core/event, events.ValidateEventCreate.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;

struct Event;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new("", "v1", "Event", "events", Scope::Namespaced, Event).short(&["ev"])
}

impl Strategy for Event {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let about = str_at(obj, "involvedObject.namespace");
        let own = machinery::object::namespace(obj);
        let fits = if about.is_empty() {
            ["default", "kube-system"].contains(&own) || own.is_empty()
        } else {
            about == own
        };
        if !fits {
            causes.at("involvedObject", |c| {
                c.at("namespace", |c| {
                    c.invalid(&json!(about), "does not match event.namespace")
                });
            });
        }
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable_keys(&self) -> &[&'static str] {
        KEYS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        KEYS.iter()
            .map(|key| {
                let path = match *key {
                    "reportingComponent" | "source" => "source.component",
                    other => other,
                };
                let mut text = str_at(obj, path);
                if *key == "reportingComponent" || (*key == "source" && text.is_empty()) {
                    text = str_at(obj, "reportingComponent");
                }
                (*key, text.to_string())
            })
            .collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::new("Last Seen"),
            Column::new("Type"),
            Column::new("Reason"),
            Column::new("Object"),
            Column::new("Subobject").wide(),
            Column::new("Source").wide(),
            Column::new("Message"),
            Column::new("First Seen").wide(),
            Column::integer("Count").wide(),
            Column::name().wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let text = |path: &str| str_at(obj, path).to_string();
        let age = |t: &str| {
            t.parse::<Timestamp>()
                .ok()
                .map(|t| machinery::strategy::human_duration(now.as_second() - t.as_second()))
        };
        let unknown = || "<unknown>".to_string();
        let first = age(&text("firstTimestamp"))
            .or_else(|| age(&text("eventTime")))
            .unwrap_or_else(unknown);
        let mut last = age(&text("lastTimestamp")).unwrap_or_else(|| first.clone());
        let mut count = i64_at(obj, "count").unwrap_or(0);
        if at(obj, "series").is_some() {
            last = age(&text("series.lastObservedTime")).unwrap_or_else(unknown);
            count = i64_at(obj, "series.count").unwrap_or(0);
        } else if count == 0 {
            count = 1;
        }
        let kind = text("involvedObject.kind").to_lowercase();
        let name = text("involvedObject.name");
        let object = if name.is_empty() {
            kind
        } else {
            format!("{kind}/{name}")
        };
        let either = |a: &str, b: &str| if text(a).is_empty() { text(b) } else { text(a) };
        let mut source = either("source.component", "reportingComponent");
        let host = either("source.host", "reportingInstance");
        if !host.is_empty() {
            source = format!("{source}, {host}");
        }
        vec![
            json!(last),
            json!(text("type")),
            json!(text("reason")),
            json!(object),
            json!(text("involvedObject.fieldPath")),
            json!(source),
            json!(text("message").trim()),
            json!(first),
            json!(count),
            cells::name(obj),
        ]
    }
}

/// Fields that selectors may name.
const KEYS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
