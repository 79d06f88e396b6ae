//! What users write and servers answer: where the fuzz target enters (`tools/fuzz`).

use serde_json::Value;

use crate::printers::jsonpath::{Template, relaxed};

/// Bytes of text: the bound is the same as in production, the value is not, so that memory can be small.
const TEXT: usize = 64 << 10;

/// A JSONPath template and what it prints of an object; gives the length.
pub fn json_path(template: &str, object: &Value) -> usize {
    let of = |text: &str| Template::parse(text).and_then(|t| t.render_within(object, TEXT));
    let relaxed = relaxed(template).and_then(|t| of(&t));
    of(template).or(relaxed).map_or(0, |text| text.len())
}
