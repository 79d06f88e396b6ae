//! What upstream's conversion to a structural schema fails over. Upstream: `NewStructural` of
//! apiextensions-apiserver/pkg/apiserver/schema/convert.go.

use serde_json::Value;

/// Why a schema has no structural form; nothing where it has one.
pub fn unsupported(schema: &Value) -> Option<String> {
    const JUNCTORS: [&str; 4] = ["not", "allOf", "anyOf", "oneOf"];
    let logic = |name: &str| match schema.get(name)? {
        Value::Array(all) => all.iter().find_map(unsupported),
        one => unsupported(one),
    };
    field(schema)
        .or_else(|| JUNCTORS.iter().find_map(|name| logic(name)))
        .or_else(|| preserved(schema))
        .or_else(|| below(schema))
}

/// A field that structural schemas do not have.
fn field(schema: &Value) -> Option<String> {
    const FIELDS: [&str; 7] = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ];
    let is_set = |name: &&&str| match schema.get(**name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(map)) => !map.is_empty() || **name == "additionalItems",
        Some(_) => true,
    };
    let name = FIELDS.iter().find(is_set)?;
    let name = if *name == "$schema" { "schema" } else { name };
    Some(format!("OpenAPIV3Schema '{name}' is not supported"))
}

fn preserved(schema: &Value) -> Option<String> {
    let off = schema
        .get("x-kubernetes-preserve-unknown-fields")?
        .as_bool()?;
    let why = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
    (!off).then(|| why.to_string())
}

/// What is wrong in the schemas below one.
fn below(schema: &Value) -> Option<String> {
    let items = match schema.get("items") {
        Some(Value::Array(all)) if !all.is_empty() => {
            Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into())
        }
        items => items.and_then(unsupported),
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut properties = properties.into_iter().flat_map(|p| p.values());
    items
        .or_else(|| properties.find_map(unsupported))
        .or_else(|| unsupported(schema.get("additionalProperties")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_structural_form_is_told() {
        const ARRAY: &str = "OpenAPIV3Schema 'items' must be a schema, but is an array";
        for (schema, expected) in [
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}}),
                None,
            ),
            (
                json!({"id": "x"}),
                Some("OpenAPIV3Schema 'id' is not supported"),
            ),
            (json!({"items": [{}]}), Some(ARRAY)),
            (
                json!({"properties": {"a": {"items": {"$ref": "x"}}}}),
                Some("OpenAPIV3Schema '$ref' is not supported"),
            ),
            (
                json!({"allOf": [{"properties": {"a": {"definitions": {"b": {}}}}}]}),
                Some("OpenAPIV3Schema 'definitions' is not supported"),
            ),
            (
                json!({"additionalProperties": {"x-kubernetes-preserve-unknown-fields": false}}),
                Some(
                    "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
                ),
            ),
        ] {
            assert_eq!(unsupported(&schema).as_deref(), expected, "{schema}");
        }
    }
}
