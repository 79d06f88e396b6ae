//! `openAPIV3Schema` as JSON to `Structural`. What is wrong with it is told with its path.

use std::collections::BTreeMap;

use machinery::Causes;
use regex::RegexBuilder;
use serde_json::{Map, Value, json};

use super::rules::Rules;
use super::{Bounds, JsonType, ListKind, Structural};
use crate::limits;

/// The schema is not structural; the causes say where.
#[derive(Debug)]
pub struct SchemaError;

/// Keywords that structural schemas may not have.
const UNSUPPORTED: [&str; 7] = [
    "$ref",
    "definitions",
    "dependencies",
    "patternProperties",
    "additionalItems",
    "id",
    "deprecated",
];

/// Where in a schema a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Items,
    /// Inside allOf, anyOf, oneOf or not: checks values, adds no structure.
    Logic,
}

impl Structural {
    /// Parses a schema; causes are added under the current path.
    pub fn parse(schema: &Value, causes: &mut Causes) -> Result<Self, SchemaError> {
        let found = causes.as_slice().len();
        let parsed = node(schema, Place::Root, 0, causes);
        if causes.as_slice().len() > found {
            return Err(SchemaError);
        }
        Ok(parsed)
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn node(schema: &Value, place: Place, depth: usize, c: &mut Causes) -> Structural {
    let mut out = Structural::default();
    let Some(map) = schema.as_object() else {
        c.invalid(schema, "must be a schema object");
        return out;
    };
    if depth > limits::SCHEMA_DEPTH {
        c.invalid(&json!("..."), "the schema is nested too deeply");
        return out;
    }
    for key in UNSUPPORTED.iter().filter(|k| map.contains_key(**k)) {
        c.at(key, |c| c.forbidden(format!("{key} is not supported")));
    }
    if flag(map, "uniqueItems") {
        c.at("uniqueItems", |c| {
            c.forbidden(
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        });
    }
    out.nullable = flag(map, "nullable");
    out.preserve_unknown = flag(map, "x-kubernetes-preserve-unknown-fields");
    out.embedded = flag(map, "x-kubernetes-embedded-resource");
    out.int_or_string = flag(map, "x-kubernetes-int-or-string");
    out.default = map.get("default").cloned();
    out.has_defaults = out.default.is_some();
    let rules = map
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    out.rules = Rules::new(rules.cloned().unwrap_or_default());
    out.has_rules = !out.rules.is_empty();
    kind(map, place, &mut out, c);
    out.list = list_kind(map, c);
    out.atomic_map = map_kind(map, c);
    if let Some(Value::Array(names)) = map.get("required") {
        out.required = names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect();
    }
    out.bounds = bounds(map, c);
    children(map, place, depth, &mut out, c);
    if place == Place::Logic && out.default.is_some() {
        c.at("default", |c| {
            c.forbidden("must be undefined to be structural")
        });
    }
    out
}

fn kind(map: &Map<String, Value>, place: Place, out: &mut Structural, c: &mut Causes) {
    let text = map.get("type").and_then(Value::as_str).unwrap_or("");
    let all = [
        JsonType::Object,
        JsonType::Array,
        JsonType::String,
        JsonType::Integer,
        JsonType::Number,
        JsonType::Boolean,
    ];
    out.kind = all.into_iter().find(|k| k.name() == text);
    let free = out.int_or_string || out.preserve_unknown;
    c.at("type", |c| match (place, text, out.kind) {
        (Place::Logic, "", _) => {}
        (Place::Logic, ..) if !out.int_or_string && text != "integer" && text != "string" => {
            c.forbidden("must be empty to be structural");
        }
        (Place::Root, "", _) => c.required("must not be empty at the root"),
        (Place::Root, t, _) if t != "object" => c.invalid(&json!(t), "must be object at the root"),
        (Place::Field, "", _) if !free => {
            c.required("must not be empty for specified object fields");
        }
        (Place::Items, "", _) if !free => c.required("must not be empty for specified array items"),
        (_, "null", _) => c.forbidden("type cannot be set to null, use nullable as an alternative"),
        (_, t, None) if !t.is_empty() => {
            c.not_supported(&json!(t), &all.map(JsonType::name));
        }
        _ => {}
    });
}

fn list_kind(map: &Map<String, Value>, c: &mut Causes) -> ListKind {
    let keys = || -> Vec<String> {
        let list = map
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect()
    };
    match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None | Some("atomic") => ListKind::Atomic,
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = keys();
            if keys.is_empty() {
                c.at("x-kubernetes-list-map-keys", |c| {
                    c.required("must not be empty if x-kubernetes-list-type is map");
                });
            }
            ListKind::Map(keys)
        }
        Some(other) => {
            c.at("x-kubernetes-list-type", |c| {
                c.not_supported(&json!(other), &["atomic", "map", "set"]);
            });
            ListKind::Atomic
        }
    }
}

/// Whether a map is owned as one.
fn map_kind(map: &Map<String, Value>, c: &mut Causes) -> bool {
    match map.get("x-kubernetes-map-type").and_then(Value::as_str) {
        None | Some("granular") => false,
        Some("atomic") => true,
        Some(other) => {
            c.at("x-kubernetes-map-type", |c| {
                c.not_supported(&json!(other), &["atomic", "granular"]);
            });
            false
        }
    }
}

fn bounds(map: &Map<String, Value>, c: &mut Causes) -> Bounds {
    let size = |key: &str| {
        let n = map.get(key).and_then(Value::as_u64);
        n.and_then(|n| usize::try_from(n).ok())
    };
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let text = map
        .get("pattern")
        .and_then(Value::as_str)
        .filter(|p| !p.is_empty());
    let pattern = text.and_then(|p| {
        let built = RegexBuilder::new(p)
            .size_limit(limits::PATTERN_BYTES)
            .build();
        built
            .map_err(|e| {
                c.at("pattern", |c| {
                    let why = format!("must be a valid regular expression, but isn't: {e}");
                    c.invalid(&json!(p), why);
                });
            })
            .ok()
    });
    Bounds {
        max_length: size("maxLength"),
        min_length: size("minLength"),
        max_items: size("maxItems"),
        min_items: size("minItems"),
        max_properties: size("maxProperties"),
        min_properties: size("minProperties"),
        maximum: number("maximum"),
        minimum: number("minimum"),
        exclusive_maximum: flag(map, "exclusiveMaximum"),
        exclusive_minimum: flag(map, "exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        pattern,
        format: map
            .get("format")
            .and_then(Value::as_str)
            .unwrap_or("")
            .into(),
        one_of_values: map.get("enum").and_then(Value::as_array).cloned(),
    }
}

fn children(
    map: &Map<String, Value>,
    place: Place,
    depth: usize,
    out: &mut Structural,
    c: &mut Causes,
) {
    let below = |p: Place| {
        if place == Place::Logic {
            Place::Logic
        } else {
            p
        }
    };
    if let Some(Value::Object(fields)) = map.get("properties") {
        out.properties = c.at("properties", |c| {
            properties(fields, below(Place::Field), place, depth, c)
        });
    }
    match map.get("items") {
        Some(items @ Value::Object(_)) => {
            let items = c.at("items", |c| node(items, below(Place::Items), depth + 1, c));
            out.items = Some(Box::new(items));
        }
        Some(Value::Array(_)) => {
            c.at("items", |c| {
                c.forbidden("items must be a schema object and not an array")
            });
        }
        _ if out.kind == Some(JsonType::Array) && place != Place::Logic => {
            c.at("items", |c| c.required("must be specified"));
        }
        _ => {}
    }
    let values = map
        .get("additionalProperties")
        .filter(|v| **v != Value::Bool(false));
    if let Some(values) = values {
        additional(map, values, place, depth, out, c);
    }
    for (key, list) in [
        ("allOf", &mut out.all_of),
        ("anyOf", &mut out.any_of),
        ("oneOf", &mut out.one_of),
    ] {
        if let Some(Value::Array(all)) = map.get(key) {
            c.at(key, |c| {
                for (i, one) in all.iter().enumerate() {
                    list.push(c.index(i, |c| node(one, Place::Logic, depth + 1, c)));
                }
            });
        }
    }
    if let Some(not) = map.get("not") {
        out.not = Some(Box::new(
            c.at("not", |c| node(not, Place::Logic, depth + 1, c)),
        ));
    }
    let structure = out
        .properties
        .values()
        .chain(out.items.as_deref())
        .chain(out.additional.as_deref());
    let (mut defaults, mut rules) = (out.has_defaults, out.has_rules);
    for s in structure {
        defaults |= s.has_defaults;
        rules |= s.has_rules;
    }
    (out.has_defaults, out.has_rules) = (defaults, rules);
}

fn properties(
    fields: &Map<String, Value>,
    place: Place,
    parent: Place,
    depth: usize,
    c: &mut Causes,
) -> BTreeMap<String, Structural> {
    let one = |(name, schema): (&String, &Value)| {
        // The root's metadata is always ObjectMeta, whatever its schema says about its type.
        let untyped = parent == Place::Root && name == "metadata";
        let place = if untyped { Place::Logic } else { place };
        let mut parsed = c.key(name, |c| {
            node(&without_type(schema, untyped), place, depth + 1, c)
        });
        if untyped {
            parsed.kind = None;
        }
        (name.clone(), parsed)
    };
    fields.iter().map(one).collect()
}

fn without_type(schema: &Value, untyped: bool) -> Value {
    let mut schema = schema.clone();
    if untyped && let Some(map) = schema.as_object_mut() {
        map.remove("type");
    }
    schema
}

fn additional(
    map: &Map<String, Value>,
    values: &Value,
    place: Place,
    depth: usize,
    out: &mut Structural,
    c: &mut Causes,
) {
    c.at("additionalProperties", |c| match place {
        Place::Root => c.forbidden("must not be used at the root"),
        Place::Logic => c.forbidden("must be undefined to be structural"),
        _ if map.get("properties").is_some() => {
            c.forbidden("additionalProperties and properties are mutual exclusive");
        }
        _ if *values == Value::Bool(true) => {
            let any = Structural {
                preserve_unknown: true,
                ..Structural::default()
            };
            out.additional = Some(Box::new(any));
        }
        _ => out.additional = Some(Box::new(node(values, Place::Field, depth + 1, c))),
    });
}
