//! Objects as Tables and as PartialObjectMetadata. Upstream: meta/v1 Table; api-semantics §3.3.

use jiff::Timestamp;
use machinery::{ApiError, Column, Descriptor};
use serde_json::{Map, Value, json};

/// What a Table row carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    Metadata,
    Object,
    None,
}

impl IncludeObject {
    /// From the query option.
    pub fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("Object") => Ok(Self::Object),
            Some("None") => Ok(Self::None),
            Some(other) => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: \"{other}\": must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// `columnDefinitions` of a resource.
pub fn columns(d: &Descriptor) -> Value {
    shown(d.strategy.columns())
}

/// `columnDefinitions` of columns.
pub fn shown(columns: impl IntoIterator<Item = Column>) -> Value {
    let one = |c: Column| {
        json!({"name": c.name, "type": c.kind, "format": c.format,
               "description": c.description, "priority": c.priority})
    };
    columns.into_iter().map(one).collect()
}

/// One row of an object.
pub fn row(
    d: &Descriptor,
    object: &Value,
    version: &str,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let cells = json!({"cells": d.strategy.row(object, now)});
    with_object(cells, object, version, include)
}

/// A row with as much of its object as is asked for.
pub fn with_object(mut row: Value, object: &Value, version: &str, include: IncludeObject) -> Value {
    row["object"] = match include {
        IncludeObject::Metadata => partial(object, version),
        IncludeObject::Object => object.clone(),
        IncludeObject::None => Value::Null,
    };
    row
}

/// A Table of rows.
pub fn table(columns: Value, rows: Vec<Value>, version: &str, metadata: Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata, "columnDefinitions": columns, "rows": rows,
    })
}

/// PartialObjectMetadata of an object.
pub fn partial(object: &Value, version: &str) -> Value {
    let mut out = Map::new();
    out.insert("kind".into(), json!("PartialObjectMetadata"));
    out.insert("apiVersion".into(), json!(format!("meta.k8s.io/{version}")));
    out.insert(
        "metadata".into(),
        object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    );
    Value::Object(out)
}
