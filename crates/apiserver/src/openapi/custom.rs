//! Schemas of custom resources as they are published. Upstream: apiextensions-apiserver/pkg/controller/openapi.

use serde_json::{Map, Value, json};

use super::definitions::Dialect;

type Object = Map<String, Value>;

const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The fields of every object: `apiVersion`, `kind` and `metadata`.
pub type Common = [(&'static str, Value); 3];

/// A definition's schema in a dialect, with the fields that every object has, where it is one.
pub fn published(mut schema: Value, dialect: Dialect, common: &Common) -> Value {
    if dialect == Dialect::V2 && schema[PRESERVES] == true {
        // With any property kubectl would refuse all others.
        return json!({"type": "object"});
    }
    let Some(root) = schema.as_object_mut() else {
        return schema;
    };
    tidy(root);
    visit(root, &mut unfold);
    if dialect == Dialect::V2 {
        visit(root, &mut plain);
    }
    visit(root, &mut |s| {
        if on(s, EMBEDDED) && !(dialect == Dialect::V2 && on(s, PRESERVES)) {
            has_common(s, common);
            require(s);
        }
    });
    has_common(root, common);
    schema
}

fn on(s: &Object, name: &str) -> bool {
    s.get(name) == Some(&Value::Bool(true))
}

/// Every schema from the root down, outer ones first; none within logic.
fn visit(s: &mut Object, f: &mut impl FnMut(&mut Object)) {
    f(s);
    let properties = s.get_mut("properties").and_then(Value::as_object_mut);
    for below in properties.into_iter().flat_map(Map::values_mut) {
        if let Some(below) = below.as_object_mut() {
            visit(below, f);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(below) = s.get_mut(name).and_then(Value::as_object_mut) {
            visit(below, f);
        }
    }
}

/// Leaves out what says nothing: empty lists, maps and texts, flags that are off.
fn tidy(s: &mut Object) {
    s.retain(|name, value| match value {
        Value::Null => false,
        Value::Bool(false) => name == "default" || name == "example",
        Value::Array(list) => name == "default" || name == "example" || !list.is_empty(),
        Value::Object(map) => name != "properties" || !map.is_empty(),
        Value::String(text) => name == "default" || name == "example" || !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    });
    let all = s.get_mut("properties").and_then(Value::as_object_mut);
    let mut below: Vec<&mut Value> = all.into_iter().flat_map(Map::values_mut).collect();
    below
        .iter_mut()
        .filter_map(|v| v.as_object_mut())
        .for_each(tidy);
    for name in JUNCTORS {
        let all = s.get_mut(name).and_then(Value::as_array_mut);
        let all = all.into_iter().flatten();
        all.filter_map(Value::as_object_mut).for_each(tidy);
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(below) = s.get_mut(name).and_then(Value::as_object_mut) {
            tidy(below);
        }
    }
}

/// Says of what may be a number or a text that it is one of both.
fn unfold(s: &mut Object) {
    if !on(s, INT_OR_STRING) {
        return;
    }
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let first = s.get("allOf").and_then(|all| all.get(0));
    if s.get("anyOf") == Some(&both) || first.and_then(|f| f.get("anyOf")) == Some(&both) {
        return;
    }
    if !s.contains_key("anyOf") {
        s.insert("anyOf".into(), both);
        return;
    }
    let all = s.entry("allOf").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.insert(0, json!({"anyOf": both}));
    }
}

/// What v2 can say: no logic, nothing nullable, nothing below what is preserved, no list of what is not told; and no
/// defaults, which its clients would take for their own.
fn plain(s: &mut Object) {
    s.remove("default");
    for name in JUNCTORS {
        s.remove(name);
    }
    s.remove("not");
    let (nullable, preserves) = (on(s, "nullable"), on(s, PRESERVES));
    if nullable {
        s.remove("nullable");
        s.remove("type");
    }
    if nullable || preserves {
        s.remove("items");
        s.remove("properties");
    }
    let kind = s.get("type").and_then(Value::as_str).unwrap_or("");
    if (kind == "array" && !s.contains_key("items")) || (kind == "object" && preserves) {
        s.remove("type");
    }
    let is_nullable = |v: &Value| v["nullable"] == true;
    if s.get("additionalProperties").is_some_and(is_nullable) {
        s.remove("required");
    }
    let mut required = s.remove("required").unwrap_or_default();
    if let (Some(names), Some(properties)) = (required.as_array_mut(), s.get("properties")) {
        names.retain(|name| !name.as_str().is_some_and(|n| is_nullable(&properties[n])));
    }
    if required.as_array().is_some_and(|names| !names.is_empty()) {
        s.insert("required".into(), required);
    }
}

fn has_common(s: &mut Object, common: &Common) {
    let properties = s.entry("properties").or_insert_with(|| json!({}));
    for (name, schema) in common {
        properties[*name] = schema.clone();
    }
}

/// An embedded object tells its kind.
fn require(s: &mut Object) {
    let required = s.entry("required").or_insert_with(|| json!([]));
    for name in ["kind", "apiVersion"] {
        if let Some(all) = required
            .as_array_mut()
            .filter(|all| !all.iter().any(|n| n == name))
        {
            all.push(json!(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: Value, dialect: Dialect) -> Value {
        let common = ["apiVersion", "kind", "metadata"].map(|name| (name, json!({})));
        let root = json!({"type": "object", "properties": {"x": schema}});
        published(root, dialect, &common)["properties"]["x"].clone()
    }

    #[test]
    fn v3_unfolds_and_embeds() {
        let both = json!([{"type": "integer"}, {"type": "string"}]);
        for (schema, wanted) in [
            (
                json!({INT_OR_STRING: true}),
                json!({INT_OR_STRING: true, "anyOf": both}),
            ),
            (
                json!({INT_OR_STRING: true, "anyOf": both}),
                json!({INT_OR_STRING: true, "anyOf": both}),
            ),
            (
                json!({INT_OR_STRING: true, "anyOf": [{"pattern": "a"}], "allOf": [{"pattern": "b"}]}),
                json!({INT_OR_STRING: true, "anyOf": [{"pattern": "a"}], "allOf": [{"anyOf": both}, {"pattern": "b"}]}),
            ),
            (
                json!({"type": "object", "nullable": false, "properties": {}, "required": [], "default": {}}),
                json!({"type": "object", "default": {}}),
            ),
            (
                json!({"type": "object", EMBEDDED: true, "required": ["kind"]}),
                json!({"type": "object", EMBEDDED: true, "required": ["kind", "apiVersion"],
                    "properties": {"apiVersion": {}, "kind": {}, "metadata": {}}}),
            ),
        ] {
            assert_eq!(of(schema.clone(), Dialect::V3), wanted, "{schema}");
        }
    }

    #[test]
    fn v2_says_less() {
        let string = json!({"type": "string"});
        let nullable = json!({"type": "string", "nullable": true});
        for (schema, wanted) in [
            (json!({INT_OR_STRING: true}), json!({INT_OR_STRING: true})),
            (nullable.clone(), json!({})),
            (
                json!({"type": "object", "default": {}, "properties": {"a": {"type": "integer", "default": 1}}}),
                json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
            ),
            (
                json!({"type": "array", "items": string, PRESERVES: true}),
                json!({PRESERVES: true}),
            ),
            (
                json!({"type": "object", "nullable": true, "additionalProperties": string, "required": ["a"]}),
                json!({"additionalProperties": string, "required": ["a"]}),
            ),
            (
                json!({"type": "object", "additionalProperties": nullable, "required": ["a"]}),
                json!({"type": "object", "additionalProperties": {}}),
            ),
            (
                json!({"type": "object", "properties": {"a": nullable, "b": string}, "required": ["a", "b"]}),
                json!({"type": "object", "properties": {"a": {}, "b": string}, "required": ["b"]}),
            ),
            (
                json!({"type": "object", "not": {"required": ["a"]}, "oneOf": [{"required": ["b"]}]}),
                json!({"type": "object"}),
            ),
        ] {
            assert_eq!(of(schema.clone(), Dialect::V2), wanted, "{schema}");
        }
    }
}
