//! How large the parts of an object can be by its schema, for estimates of what rules cost.
//! Upstream: k8s.io/apiserver/pkg/cel/common/schemas.go and the sizeEstimator of schema/cel/compilation.go.

use std::collections::BTreeMap;

use celenv::schema::{can_escape, escape};
use celenv::{Range, Sizes};
use serde_json::Value;

use super::super::{JsonType, Structural};

/// Bytes of the largest request, which stands in estimates whatever the server's real limit is.
pub(super) const REQUEST: u64 = 3 * 1024 * 1024;
/// Longest name of an object; a generated one has a byte less for its ending.
const NAME: u64 = 253;
/// Bytes of a code point at most.
const POINT: u64 = 4;

/// What is known about a value's size.
#[derive(Debug, Default)]
pub(super) struct Size {
    /// Most code points, bytes, items or entries.
    max: u64,
    /// Fewest bytes in JSON.
    least: u64,
    fields: BTreeMap<String, Size>,
    /// Of the items of a list and the values of a map.
    element: Option<Box<Size>>,
    is_map: bool,
}

fn sized(max: u64, least: u64) -> Size {
    Size {
        max,
        least,
        ..Size::default()
    }
}

impl Size {
    /// Nothing for what rules cannot see.
    pub fn of(s: &Structural, resource: bool) -> Option<Self> {
        if s.int_or_string {
            let max = s.bounds.max_length.map_or(REQUEST - 2, points);
            return Some(sized(max, 1));
        }
        Some(match s.kind? {
            JsonType::Boolean => sized(0, 4),
            JsonType::Integer | JsonType::Number => sized(0, 1),
            JsonType::String => text(s),
            JsonType::Array => {
                let items = s.items.as_deref()?;
                let element = Self::of(items, items.embedded)?;
                let max = match s.bounds.max_items {
                    Some(n) => n as u64,
                    None => (REQUEST - 2) / (element.least + 1),
                };
                Size {
                    element: Some(Box::new(element)),
                    ..sized(max, 2)
                }
            }
            JsonType::Object => match s.additional.as_deref() {
                Some(values) => {
                    let element = Self::of(values, values.embedded)?;
                    let max = match s.bounds.max_properties {
                        Some(n) => n as u64,
                        None => (REQUEST - 2) / (element.least + 6),
                    };
                    Size {
                        element: Some(Box::new(element)),
                        is_map: true,
                        ..sized(max, 2)
                    }
                }
                _ => object(s, resource),
            },
        })
    }

    /// How often a value of this kind can be in one request.
    pub fn most_in_a_request(&self) -> u64 {
        REQUEST / (self.least + 1)
    }
}

/// A length in code points, as bytes.
fn points(length: usize) -> u64 {
    (length as u64).saturating_mul(POINT)
}

fn text(s: &Structural) -> Size {
    let max = s.bounds.max_length;
    match s.bounds.format.as_str() {
        "byte" => sized(max.map_or(REQUEST - 2, |n| n as u64), 2),
        "duration" => sized(32, 3),
        "date" => sized(12, 12),
        "date-time" => sized(32, 21),
        _ => match (max, s.bounds.one_of_values.as_deref()) {
            (Some(n), _) => sized(points(n), 2),
            (None, Some(values)) if !values.is_empty() => {
                let longest = values.iter().filter_map(Value::as_str).map(str::len).max();
                sized(longest.unwrap_or(0) as u64, 2)
            }
            _ => sized(REQUEST - 2, 2),
        },
    }
}

fn object(s: &Structural, resource: bool) -> Size {
    let mut out = sized(0, 2);
    for (name, below) in &s.properties {
        if resource && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        let Some(size) = Size::of(below, below.embedded) else {
            continue;
        };
        if s.required.contains(name) && below.default.is_none() {
            out.least += name.len() as u64 + size.least + 4;
        }
        if can_escape(name) {
            out.fields.insert(escape(name), size);
        }
    }
    if resource {
        let own = declares_metadata(s);
        let named = |field: &str, longest: u64| {
            let given = s.properties.get("metadata");
            let given = given.and_then(|m| m.properties.get(field)?.bounds.max_length);
            match given {
                Some(n) if own => sized(points(n), 2),
                None if own => sized(REQUEST - 2, 2),
                given => sized(given.map_or(longest, |n| longest.min(n as u64)) * POINT, 2),
            }
        };
        let mut metadata = sized(0, 2);
        metadata.fields.insert("name".into(), named("name", NAME));
        metadata
            .fields
            .insert("generateName".into(), named("generateName", NAME - 1));
        out.fields.insert("metadata".into(), metadata);
        for field in ["apiVersion", "kind"] {
            out.fields.insert(field.into(), sized(REQUEST - 2, 2));
            if s.required.contains(field) {
                out.least += field.len() as u64 + 2 + 4;
            }
        }
        if s.required.contains("metadata") {
            out.least += "metadata".len() as u64 + 2 + 4;
        }
    }
    out
}

/// Whether a resource's schema declares by itself what rules always see: then upstream takes it as it is.
fn declares_metadata(s: &Structural) -> bool {
    let is = |of: &Structural, name: &str, kind: JsonType| {
        of.properties
            .get(name)
            .is_some_and(|p| p.kind == Some(kind))
    };
    is(s, "kind", JsonType::String)
        && is(s, "apiVersion", JsonType::String)
        && is(s, "metadata", JsonType::Object)
        && s.properties.get("metadata").is_some_and(|m| {
            is(m, "name", JsonType::String) && is(m, "generateName", JsonType::String)
        })
}

impl Sizes for Size {
    /// The first name is a variable's, and all of them are of this size.
    fn size(&self, path: &[String]) -> Option<Range> {
        let mut at = self;
        for name in path.iter().skip(1) {
            at = match name.as_str() {
                "@items" | "@values" => at.element.as_deref()?,
                // The keys of maps are strings without a bound of their own.
                "@keys" if at.is_map => return Some(Range { min: 0, max: 0 }),
                "@keys" => return None,
                name => at.fields.get(name)?,
            };
        }
        Some(Range {
            min: 0,
            max: at.max,
        })
    }
}
