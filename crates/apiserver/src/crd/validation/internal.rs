//! Versions, schemas and rules as upstream's internal types show them in errors: Go's names, zero values too.
//! Upstream: apiextensions-apiserver/pkg/apis/apiextensions/{types,types_jsonschema}.go.

use machinery::causes::go_json;
use machinery::object::{bool_at, str_at};
use serde_json::{Value, json};

use super::is_shared;

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Text,
    Flag,
    /// Null where it is missing.
    Any,
    Schema,
    Schemas,
    Fields,
    Items,
    Values,
    Dependencies,
    Documents,
    Rules,
}

const FIELDS: [(&str, &str, Shape); 43] = [
    ("ID", "id", Shape::Text),
    ("Schema", "$schema", Shape::Text),
    ("Ref", "$ref", Shape::Any),
    ("Description", "description", Shape::Text),
    ("Type", "type", Shape::Text),
    ("Nullable", "nullable", Shape::Flag),
    ("Format", "format", Shape::Text),
    ("Title", "title", Shape::Text),
    ("Default", "default", Shape::Any),
    ("Maximum", "maximum", Shape::Any),
    ("ExclusiveMaximum", "exclusiveMaximum", Shape::Flag),
    ("Minimum", "minimum", Shape::Any),
    ("ExclusiveMinimum", "exclusiveMinimum", Shape::Flag),
    ("MaxLength", "maxLength", Shape::Any),
    ("MinLength", "minLength", Shape::Any),
    ("Pattern", "pattern", Shape::Text),
    ("MaxItems", "maxItems", Shape::Any),
    ("MinItems", "minItems", Shape::Any),
    ("UniqueItems", "uniqueItems", Shape::Flag),
    ("MultipleOf", "multipleOf", Shape::Any),
    ("Enum", "enum", Shape::Any),
    ("MaxProperties", "maxProperties", Shape::Any),
    ("MinProperties", "minProperties", Shape::Any),
    ("Required", "required", Shape::Any),
    ("Items", "items", Shape::Items),
    ("AllOf", "allOf", Shape::Schemas),
    ("OneOf", "oneOf", Shape::Schemas),
    ("AnyOf", "anyOf", Shape::Schemas),
    ("Not", "not", Shape::Schema),
    ("Properties", "properties", Shape::Fields),
    (
        "AdditionalProperties",
        "additionalProperties",
        Shape::Values,
    ),
    ("PatternProperties", "patternProperties", Shape::Fields),
    ("Dependencies", "dependencies", Shape::Dependencies),
    ("AdditionalItems", "additionalItems", Shape::Values),
    ("Definitions", "definitions", Shape::Fields),
    ("ExternalDocs", "externalDocs", Shape::Documents),
    ("Example", "example", Shape::Any),
    (
        "XPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
        Shape::Any,
    ),
    (
        "XEmbeddedResource",
        "x-kubernetes-embedded-resource",
        Shape::Flag,
    ),
    ("XIntOrString", "x-kubernetes-int-or-string", Shape::Flag),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Shape::Any),
    ("XListType", "x-kubernetes-list-type", Shape::Any),
    ("XMapType", "x-kubernetes-map-type", Shape::Any),
];
const RULES: (&str, &str, Shape) = ("XValidations", "x-kubernetes-validations", Shape::Rules);

fn all_fields() -> impl Iterator<Item = (&'static str, &'static str, Shape)> {
    FIELDS.into_iter().chain([RULES])
}

/// The names of a schema's fields that are set.
pub fn fields_of(schema: &Value) -> Vec<&'static str> {
    let set = |(_, name, shape): &(&str, &str, Shape)| match (shape, schema.get(*name)) {
        (_, None | Some(Value::Null)) => false,
        (Shape::Flag, Some(v)) => *v == Value::Bool(true),
        (Shape::Text, Some(v)) => v.as_str().is_some_and(|t| !t.is_empty()),
        _ => true,
    };
    all_fields().filter(set).map(|(go, ..)| go).collect()
}

/// A schema.
pub fn schema(s: &Value) -> String {
    let one = |(go, name, shape)| {
        format!(
            "\"{go}\":{}",
            shown(s.get(name).filter(|v| !v.is_null()), shape)
        )
    };
    let all: Vec<String> = all_fields().map(one).collect();
    format!("{{{}}}", all.join(","))
}

/// A schema's `items`.
pub fn items(v: &Value) -> String {
    match v {
        Value::Array(all) => format!(
            "{{\"Schema\":null,\"JSONSchemas\":[{}]}}",
            joined(all, schema)
        ),
        one => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(one)),
    }
}

fn joined(all: &[Value], f: fn(&Value) -> String) -> String {
    let texts: Vec<String> = all.iter().map(f).collect();
    texts.join(",")
}

fn shown(v: Option<&Value>, shape: Shape) -> String {
    let text = |name: &str| v.map_or_else(|| "\"\"".into(), |v| go_json(&json!(str_at(v, name))));
    match (shape, v) {
        (Shape::Text, None) => "\"\"".into(),
        (Shape::Flag, None) => "false".into(),
        (_, None) => "null".into(),
        (Shape::Text | Shape::Flag | Shape::Any, Some(v)) => go_json(v),
        (Shape::Schema, Some(v)) => schema(v),
        (Shape::Schemas, Some(v)) => format!(
            "[{}]",
            joined(v.as_array().map_or(&[], Vec::as_slice), schema)
        ),
        (Shape::Fields, Some(v)) => keyed(v, schema),
        (Shape::Items, Some(v)) => items(v),
        (Shape::Values, Some(Value::Bool(b))) => format!("{{\"Allows\":{b},\"Schema\":null}}"),
        (Shape::Values, Some(v)) => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(v)),
        (Shape::Dependencies, Some(v)) => keyed(v, |v| match v.is_array() {
            true => format!("{{\"Schema\":null,\"Property\":{}}}", go_json(v)),
            false => format!("{{\"Schema\":{},\"Property\":null}}", schema(v)),
        }),
        (Shape::Documents, Some(_)) => format!(
            "{{\"Description\":{},\"URL\":{}}}",
            text("description"),
            text("url")
        ),
        (Shape::Rules, Some(v)) => format!(
            "[{}]",
            joined(v.as_array().map_or(&[], Vec::as_slice), rule)
        ),
    }
}

fn keyed(v: &Value, f: fn(&Value) -> String) -> String {
    let one = |(k, v): (&String, &Value)| format!("{}:{}", go_json(&json!(k)), f(v));
    let all: Vec<String> = v.as_object().into_iter().flatten().map(one).collect();
    format!("{{{}}}", all.join(","))
}

/// A rule.
pub fn rule(raw: &Value) -> String {
    let text = |field: &str| go_json(&json!(str_at(raw, field)));
    let any = |field: &str| raw.get(field).map_or_else(|| "null".into(), go_json);
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        any("reason"),
        text("fieldPath"),
        any("optionalOldSelf"),
    )
}

/// Versions, without what they share.
pub fn versions(all: &[Value]) -> String {
    let own = |v: &Value, field: &str, f: fn(&Value) -> String| match v.get(field) {
        Some(value) if !value.is_null() && !is_shared(all, field) => f(value),
        _ => "null".into(),
    };
    let flag = |v: &Value, field: &str| bool_at(v, field).unwrap_or(false);
    let one = |v: &Value| {
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            go_json(&json!(str_at(v, "name"))),
            flag(v, "served"),
            flag(v, "storage"),
            flag(v, "deprecated"),
            v.get("deprecationWarning")
                .map_or_else(|| "null".into(), go_json),
            own(v, "schema", wrapped),
            own(v, "subresources", subresources),
            own(v, "additionalPrinterColumns", |v| format!(
                "[{}]",
                joined(list(v), column)
            )),
            own(v, "selectableFields", |v| format!(
                "[{}]",
                joined(list(v), selectable)
            )),
        )
    };
    let texts: Vec<String> = all.iter().map(one).collect();
    format!("[{}]", texts.join(","))
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn wrapped(v: &Value) -> String {
    let inner = v.get("openAPIV3Schema").filter(|s| !s.is_null());
    format!(
        "{{\"OpenAPIV3Schema\":{}}}",
        inner.map_or_else(|| "null".into(), schema)
    )
}

fn subresources(v: &Value) -> String {
    let text = |v: &Value, f: &str| go_json(&json!(str_at(v, f)));
    let scale = v.get("scale").filter(|s| s.is_object()).map_or_else(
        || "null".into(),
        |s| {
            format!(
                "{{\"SpecReplicasPath\":{},\"StatusReplicasPath\":{},\"LabelSelectorPath\":{}}}",
                text(s, "specReplicasPath"),
                text(s, "statusReplicasPath"),
                s.get("labelSelectorPath")
                    .map_or_else(|| "null".into(), go_json)
            )
        },
    );
    let status = if v.get("status").is_some_and(Value::is_object) {
        "{}"
    } else {
        "null"
    };
    format!("{{\"Status\":{status},\"Scale\":{scale}}}")
}

fn column(v: &Value) -> String {
    let text = |f: &str| go_json(&json!(str_at(v, f)));
    format!(
        "{{\"Name\":{},\"Type\":{},\"Format\":{},\"Description\":{},\"Priority\":{},\"JSONPath\":{}}}",
        text("name"),
        text("type"),
        text("format"),
        text("description"),
        v.get("priority").and_then(Value::as_i64).unwrap_or(0),
        text("jsonPath"),
    )
}

fn selectable(v: &Value) -> String {
    format!(
        "{{\"JSONPath\":{}}}",
        go_json(&json!(str_at(v, "jsonPath")))
    )
}
