//! Event, events.k8s.io/v1: the same stored object as core/v1's, under newer names.
//! Upstream: pkg/apis/events/v1/conversion.go, ValidateEventCreate, ValidateEventUpdate.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, map_at, remove, set, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::core::event as core_event;
use crate::fields;

/// Fields by their names here and in core/v1.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
/// Bounds of texts, in bytes.
const TEXT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

struct Event;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "events.k8s.io",
        "v1",
        "Event",
        "events",
        Scope::Namespaced,
        Event,
    )
    .short(&["ev"])
}

fn rename(
    obj: &mut Value,
    from: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = obj.as_object_mut() else {
        return;
    };
    for (old, new) in RENAMED.iter().map(from) {
        if let Some(value) = map.remove(old) {
            map.insert(new.into(), value);
        }
    }
}

/// The event under core/v1's names.
fn as_core(obj: &Value) -> Value {
    let mut out = obj.clone();
    Event.to_stored(&mut out);
    out
}

impl Strategy for Event {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        always(obj, causes);
        series(obj, causes);
        fields::required(obj, "eventTime", causes);
        let kind = str_at(obj, "type");
        if !["Normal", "Warning"].contains(&kind) {
            causes.at("type", |c| {
                c.invalid(&json!(""), format!("has invalid value: {kind}"));
            });
        }
        let source = map_at(obj, "deprecatedSource")
            .is_some_and(|m| m.values().any(|v| v.as_str() != Some("")));
        for (field, given) in [
            (
                "firstTimestamp",
                at(obj, "deprecatedFirstTimestamp").is_some(),
            ),
            (
                "lastTimestamp",
                at(obj, "deprecatedLastTimestamp").is_some(),
            ),
            ("count", i64_at(obj, "deprecatedCount").unwrap_or(0) != 0),
            ("source", source),
        ] {
            if given {
                causes.at(field, |c| c.invalid(&json!(""), "needs to be unset"));
            }
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        always(obj, causes);
        if obj.get("series") != before.get("series") {
            series(obj, causes);
        }
        for (field, shown) in [
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("note", "message"),
            ("deprecatedSource", "source"),
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            let (new, old) = (at(obj, field), at(before, field));
            if new != old && !(field == "eventTime" && same_time(new, old)) {
                let shown_value = new.cloned().unwrap_or_default();
                causes.at(shown, |c| c.invalid(&shown_value, fields::IMMUTABLE));
            }
        }
    }

    fn converts(&self) -> bool {
        true
    }

    fn from_stored(&self, obj: &mut Value) {
        set(obj, "apiVersion", json!("events.k8s.io/v1"));
        rename(obj, |(here, core)| (core, here));
        // Core events always carry their object; an empty source says nothing.
        if map_at(obj, "deprecatedSource").is_some_and(serde_json::Map::is_empty) {
            remove(obj, "deprecatedSource");
        }
    }

    fn to_stored(&self, obj: &mut Value) {
        set(obj, "apiVersion", json!("v1"));
        rename(obj, |(here, core)| (here, core));
    }

    fn selectable_keys(&self) -> &[&'static str] {
        KEYS
    }

    fn selects_as<'a>(&self, key: &'a str) -> &'a str {
        KEYS.iter()
            .position(|k| *k == key)
            .map_or(key, |i| CORE_KEYS[i])
    }

    fn columns(&self) -> Vec<Column> {
        core_event::resource().strategy.columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        core_event::resource().strategy.row(&as_core(obj), now)
    }
}

/// Fields that selectors may name, and what core/v1's cache calls them.
const KEYS: &[&str] = &[
    "reason",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reportingController",
    "type",
];
const CORE_KEYS: &[&str] = &[
    "reason",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reportingComponent",
    "type",
];

/// Whether two times are one to the microsecond.
fn same_time(a: Option<&Value>, b: Option<&Value>) -> bool {
    let micros = |v: Option<&Value>| {
        v.and_then(Value::as_str)
            .and_then(|t| t.parse::<Timestamp>().ok())
            .map(|t| t.as_microsecond())
    };
    micros(a).is_some() && micros(a) == micros(b)
}

/// What holds for every event that is written here.
fn always(obj: &Value, c: &mut Causes) {
    let about = str_at(obj, "regarding.namespace");
    let own = machinery::object::namespace(obj);
    let timed = at(obj, "eventTime").is_some();
    let fits = match (about.is_empty(), timed) {
        (true, false) => ["", "default"].contains(&own),
        (true, true) => ["default", "kube-system"].contains(&own),
        (false, false) => about == own,
        (false, true) => true,
    };
    if !fits {
        c.at("involvedObject.namespace", |c| {
            c.invalid(&json!(about), "does not match event.namespace");
        });
    }
    if !timed {
        return;
    }
    let controller = str_at(obj, "reportingController");
    c.at("reportingController", |c| {
        if controller.is_empty() {
            c.required("");
        }
        fields::text(controller, names::qualified_name, c);
    });
    for field in ["reportingInstance", "action", "reason"] {
        let text = str_at(obj, field);
        c.at(field, |c| {
            if text.is_empty() {
                c.required("");
            }
            if text.len() > TEXT_MAX {
                c.invalid(&json!(""), "can have at most 128 characters");
            }
        });
    }
    if str_at(obj, "note").len() > NOTE_MAX {
        c.at("message", |c| {
            c.invalid(&json!(""), "can have at most 1024 characters");
        });
    }
}

fn series(obj: &Value, c: &mut Causes) {
    if at(obj, "series").is_none() {
        return;
    }
    if i64_at(obj, "series.count").unwrap_or(0) < 2 {
        c.at("series.count", |c| {
            c.invalid(&json!(""), "should be at least 2");
        });
    }
    fields::required(obj, "series.lastObservedTime", c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
            "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "x/y", "reportingInstance": "i",
            "action": "a", "reason": "r", "type": "Normal", "note": "t", "regarding": {"namespace": "n", "kind": "Pod", "name": "p"}})
    }

    #[test]
    fn events_are_stored_under_cores_names() {
        let mut obj = good();
        Event.to_stored(&mut obj);
        assert_eq!(obj["apiVersion"], "v1");
        assert_eq!(obj["involvedObject"]["name"], "p");
        assert_eq!(
            (&obj["message"], &obj["reportingComponent"]),
            (&json!("t"), &json!("x/y"))
        );
        Event.from_stored(&mut obj);
        assert_eq!(obj, good());
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| Event.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            ("action", json!(""), "action: Required value"),
            (
                "type",
                json!("x"),
                "type: Invalid value: \"\": has invalid value: x",
            ),
            (
                "deprecatedCount",
                json!(1),
                "count: Invalid value: \"\": needs to be unset",
            ),
            (
                "series",
                json!({"count": 1, "lastObservedTime": "2026-01-01T00:00:00Z"}),
                "series.count: Invalid value: \"\": should be at least 2",
            ),
            (
                "regarding.namespace",
                json!(""),
                "involvedObject.namespace: Invalid value: \"\": does not match event.namespace",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| Event.validate(&obj, c)), [expected]);
        }
        let mut obj = good();
        set(&mut obj, "note", json!("other"));
        set(
            &mut obj,
            "series",
            json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00Z"}),
        );
        assert_eq!(
            texts(|c| Event.validate_update(&obj, &good(), c)),
            ["message: Invalid value: \"other\": field is immutable"]
        );
    }
}
