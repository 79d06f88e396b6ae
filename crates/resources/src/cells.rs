//! Cells that many tables share.

use jiff::Timestamp;
use machinery::Column;
use serde_json::{Value, json};

/// The Name cell.
pub fn name(obj: &Value) -> Value {
    json!(machinery::object::name(obj))
}

/// The Age cell.
pub fn age(obj: &Value, now: Timestamp) -> Value {
    json!(machinery::strategy::age(obj, now))
}

/// The Created At cell of kinds without a printer.
pub fn created_at(obj: &Value) -> Value {
    json!(machinery::object::str_at(obj, "metadata.creationTimestamp"))
}

/// The columns of kinds without a printer.
pub fn default_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column {
            kind: "date".into(),
            ..Column::new("Created At")
        },
    ]
}

/// A text, or `<none>` where it is empty.
pub fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

/// A LabelSelector as a cell.
pub fn selector(object: Option<&Value>) -> Value {
    let text = object
        .and_then(api::selector::LabelSelector::from_object)
        .map(|s| s.to_string());
    or_none(&text.unwrap_or_default())
}

/// A map of labels as a cell: `a=b,c=d`.
pub fn label_map(map: Option<&serde_json::Map<String, Value>>) -> Value {
    let all = map.into_iter().flatten();
    let texts: Vec<String> = all
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    or_none(&texts.join(","))
}

/// An integer at a path, 0 where there is none.
pub fn integer(obj: &Value, path: &str) -> Value {
    json!(machinery::object::i64_at(obj, path).unwrap_or(0))
}

/// The first `max` texts, joined by commas, and how many more there are; `none` where there are none.
pub fn more(all: &[String], max: usize, none: &str) -> String {
    if all.is_empty() {
        return none.to_string();
    }
    let shown = all[..all.len().min(max)].join(",");
    match all.len().saturating_sub(max) {
        0 => shown,
        n => format!("{shown} + {n} more..."),
    }
}
