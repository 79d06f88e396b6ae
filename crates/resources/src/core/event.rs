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

/// Longest reporter, action and reason, and longest message.
const TEXT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

/// What events of the new style must say.
fn new_style_texts(obj: &Value, c: &mut Causes) {
    let controller = str_at(obj, "reportingComponent");
    c.at("reportingComponent", |c| {
        if controller.is_empty() {
            c.required("");
        }
        for problem in names::qualified_name(controller) {
            c.invalid(&json!(controller), problem);
        }
    });
    for field in ["reportingInstance", "action", "reason"] {
        let text = str_at(obj, field);
        c.at(field, |c| {
            if text.is_empty() {
                c.required("");
            } else if text.len() > TEXT_MAX {
                c.invalid(
                    &json!(""),
                    format!("can have at most {TEXT_MAX} characters"),
                );
            }
        });
    }
    if str_at(obj, "message").len() > MESSAGE_MAX {
        c.at("message", |c| {
            c.invalid(
                &json!(""),
                format!("can have at most {MESSAGE_MAX} characters"),
            );
        });
    }
}

impl Strategy for Event {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let about = str_at(obj, "involvedObject.namespace");
        let own = machinery::object::namespace(obj);
        // Upstream: an eventTime marks events of the new style.
        let new_style = !str_at(obj, "eventTime").is_empty();
        let fits = match (about.is_empty(), new_style) {
            (true, false) => ["", "default"].contains(&own),
            (true, true) => ["default", "kube-system"].contains(&own),
            (false, _) => about == own,
        };
        if !fits {
            causes.at("involvedObject", |c| {
                c.at("namespace", |c| {
                    c.invalid(&json!(about), "does not match event.namespace")
                });
            });
        }
        if new_style {
            new_style_texts(obj, causes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_judged() {
        let texts = |obj: Value| -> Vec<String> {
            let mut c = Causes::new();
            Event.validate(&obj, &mut c);
            c.as_slice().iter().map(|c| c.text()).collect()
        };
        let own = json!({"namespace": "d"});
        assert!(texts(json!({"metadata": own, "involvedObject": {"namespace": "d"}})).is_empty());
        assert_eq!(
            texts(json!({"metadata": own, "involvedObject": {}})),
            ["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"]
        );
        let time = "2026-01-01T00:00:00.000000Z";
        let found = texts(
            json!({"metadata": own, "involvedObject": {"namespace": "d"}, "eventTime": time,
            "reportingComponent": "kubelet", "reportingInstance": "n", "reason": "r"}),
        );
        assert_eq!(found, ["action: Required value"]);
    }
}
