//! `openAPIV3Schema` as JSON to `Structural`. What may be wrong with it is `validation`'s to say.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rules::Rules;
use super::{Bounds, JsonType, ListKind, Pattern, Structural, format};
use crate::limits;

impl Structural {
    /// Parses a schema. What lies deeper than the limit is left out.
    pub fn parse(schema: &Value) -> Self {
        node(schema, 0)
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn strings(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let all = list(map, key).iter().filter_map(Value::as_str);
    all.map(str::to_string).collect()
}

fn node(schema: &Value, depth: usize) -> Structural {
    let Some(map) = schema.as_object().filter(|_| depth <= limits::SCHEMA_DEPTH) else {
        return Structural::default();
    };
    let below = |schema: &Value| node(schema, depth + 1);
    let all = |key: &str| list(map, key).iter().map(below).collect();
    let one = |key: &str| {
        map.get(key)
            .filter(|v| v.is_object())
            .map(|v| Box::new(below(v)))
    };
    let properties: BTreeMap<String, Structural> = match map.get("properties") {
        Some(Value::Object(fields)) => fields.iter().map(|(k, v)| (k.clone(), below(v))).collect(),
        _ => BTreeMap::new(),
    };
    let kind = JsonType::of(text(map, "type"));
    let int_or_string = flag(map, "x-kubernetes-int-or-string");
    let mut out = Structural {
        kind,
        properties,
        additional: one("additionalProperties"),
        additional_any: map.get("additionalProperties").and_then(Value::as_bool),
        items: one("items"),
        required: strings(map, "required").into_iter().collect(),
        nullable: flag(map, "nullable"),
        default: map.get("default").filter(|d| !d.is_null()).cloned(),
        preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
        embedded: flag(map, "x-kubernetes-embedded-resource"),
        int_or_string,
        list: list_kind(map),
        atomic_map: text(map, "x-kubernetes-map-type") == "atomic",
        bounds: bounds(map, if int_or_string { None } else { kind }),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: one("not"),
        rules: Rules::new(list(map, "x-kubernetes-validations").to_vec()),
        ..Structural::default()
    };
    let parts = out.properties.values();
    let parts: Vec<&Structural> = parts
        .chain(out.items.as_deref())
        .chain(out.additional.as_deref())
        .collect();
    let any = |own: bool, f: fn(&Structural) -> bool| own || parts.iter().any(|s| f(s));
    let found = (
        any(out.default.is_some(), |s| s.has_defaults),
        any(!out.rules.is_empty(), |s| s.has_rules),
        any(out.embedded, |s| s.has_embedded),
    );
    (out.has_defaults, out.has_rules, out.has_embedded) = found;
    out
}

fn list_kind(map: &Map<String, Value>) -> ListKind {
    match text(map, "x-kubernetes-list-type") {
        "set" => ListKind::Set,
        "map" => ListKind::Map(strings(map, "x-kubernetes-list-map-keys")),
        _ => ListKind::Atomic,
    }
}

fn bounds(map: &Map<String, Value>, kind: Option<JsonType>) -> Bounds {
    let size = |key: &str| {
        let n = map.get(key).and_then(Value::as_u64);
        n.and_then(|n| usize::try_from(n).ok())
    };
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let pattern = |text: &str| Pattern {
        text: text.into(),
        compiled: stdx::regexp::compile(text, limits::PATTERN_BYTES),
    };
    let format = text(map, "format");
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
        pattern: Some(text(map, "pattern"))
            .filter(|p| !p.is_empty())
            .map(pattern),
        has_format: !format.is_empty(),
        format: if format::is_supported(kind, format) {
            format.into()
        } else {
            String::new()
        },
        one_of_values: map
            .get("enum")
            .and_then(Value::as_array)
            .filter(|e| !e.is_empty())
            .cloned(),
    }
}
