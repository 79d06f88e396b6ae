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
