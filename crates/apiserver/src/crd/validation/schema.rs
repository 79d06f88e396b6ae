//! `openAPIV3Schema` of a version: what may stand in it. Upstream: `ValidateCustomResourceDefinitionOpenAPISchema`
//! in apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go.

use machinery::Causes;
use machinery::causes::{CauseKind, go_json};
use machinery::object::{bool_at, list_at, str_at};
use serde_json::{Map, Value, json};

use super::super::structural::{Before, JsonType, Structural, field_path};
use super::ratchet::Required;
use super::unsupported::unsupported;
use super::{defaults, internal, structural};

const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Fields that the root may have beside a status subresource, as upstream's internal type names them.
const AT_ROOT: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// Checks a version's schema at the current path.
pub fn validate(
    schema: &Value,
    has_status: bool,
    (required, before): (Required, &Before),
    c: &mut Causes,
) {
    let begun = c.len();
    if has_status {
        at_root(schema, c);
    }
    if bool_at(schema, "nullable") == Some(true) {
        c.at("openAPIV3Schema.nullable", |c| {
            c.forbidden("nullable cannot be true at the root")
        });
    }
    let parsed = Structural::parse(schema);
    let refused = unsupported(schema).filter(|_| required.structural);
    let structural = required.structural && refused.is_none();
    c.at("openAPIV3Schema", |c| {
        let before_structure = c.len();
        if structural {
            structural::validate(schema, c);
            if c.len() == before_structure {
                defaults::validate(&parsed, required.pruned_defaults, c);
            }
        }
        let is_good = structural && c.len() == before_structure;
        let walked = c.len();
        let place = Place {
            root: true,
            required,
            ..Place::default()
        };
        walk(schema, &place, c);
        if is_good {
            let found: Vec<String> = c.as_slice()[walked..]
                .iter()
                .map(|e| e.field.clone())
                .collect();
            let wrong = |path: &str| found.iter().any(|f| f.starts_with(path));
            parsed.check_rules(before, &wrong, c);
        }
        if let Some(why) = refused.filter(|_| c.len() == begun) {
            c.invalid(&json!(""), why);
        }
    });
}

fn at_root(schema: &Value, c: &mut Causes) {
    for name in internal::fields_of(schema) {
        if name == "Type" {
            let kind = str_at(schema, "type");
            if kind != "object" {
                let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                return c.at("openAPIV3Schema.type", |c| c.invalid(&json!(kind), why));
            }
        } else if !AT_ROOT.contains(&name) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                AT_ROOT.join(" ")
            );
            return c.at("openAPIV3Schema", |c| {
                c.shown(CauseKind::Invalid, internal::schema(schema), why)
            });
        }
    }
}

/// Where a schema stands.
#[derive(Clone, Default)]
struct Place {
    /// The schema of the whole object.
    root: bool,
    required: Required,
    /// Why defaults may not stand here.
    no_defaults: Option<String>,
    in_meta: bool,
}

fn field<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get(name).filter(|v| !v.is_null())
}

fn entries<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema
        .get(name)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn walk(s: &Value, place: &Place, c: &mut Causes) {
    standard(s, place, c);
    if bool_at(s, "uniqueItems") == Some(true) {
        c.at("uniqueItems", |c| {
            c.forbidden(
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        });
    }
    values(s, place, c);
    properties(s, place, c);
    let inner = Place {
        root: false,
        ..place.clone()
    };
    if let Some(not) = field(s, "not") {
        c.at("not", |c| walk(not, &inner, c));
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        c.at(name, |c| {
            for (i, one) in list_at(s, name).iter().enumerate() {
                c.index(i, |c| walk(one, &inner, c));
            }
        });
    }
    c.at("definitions", |c| {
        for (key, one) in entries(s, "definitions") {
            c.key(key, |c| walk(one, &inner, c));
        }
    });
    c.at("items", |c| match field(s, "items") {
        Some(Value::Array(all)) => {
            for (i, one) in all.iter().enumerate() {
                c.index(i, |c| walk(one, &inner, c));
            }
        }
        Some(one) => walk(one, &inner, c),
        None => {}
    });
    c.at("dependencies", |c| {
        for (key, one) in entries(s, "dependencies").filter(|(_, v)| v.is_object()) {
            c.key(key, |c| walk(one, &inner, c));
        }
    });
    extensions(s, place, c);
    map_keys(s, c);
    if place.required.map_keys {
        unique(s, c);
    }
    validations(s, c);
}

fn values(s: &Value, place: &Place, c: &mut Causes) {
    let Some(values) = field(s, "additionalProperties") else {
        return;
    };
    c.at("additionalProperties", |c| {
        let has_fields = entries(s, "properties").next().is_some();
        if has_fields && *values != Value::Bool(true) {
            c.forbidden("additionalProperties and properties are mutual exclusive");
        }
        let mut below = Place {
            root: false,
            ..place.clone()
        };
        if place.in_meta {
            below.no_defaults =
                Some("inside additionalProperties applying to object metadata".into());
        }
        if values.is_object() {
            walk(values, &below, c);
        }
    });
}

fn properties(s: &Value, place: &Place, c: &mut Causes) {
    let resource = place.root || bool_at(s, "x-kubernetes-embedded-resource") == Some(true);
    c.at("properties", |c| {
        for (name, schema) in entries(s, "properties") {
            let mut below = Place {
                root: false,
                ..place.clone()
            };
            if resource && META.contains(&name.as_str()) {
                below.in_meta = true;
                if place.root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            c.key(name, |c| walk(schema, &below, c));
        }
    });
}

/// What OpenAPI v3 as upstream takes it has not.
fn standard(s: &Value, place: &Place, c: &mut Causes) {
    let kind = str_at(s, "type");
    if place.required.types && !kind.is_empty() && JsonType::of(kind).is_none() {
        c.at("type", |c| {
            c.not_supported(&json!(kind), &JsonType::ALL.map(JsonType::name))
        });
    }
    if let (Some(why), Some(_)) = (&place.no_defaults, field(s, "default")) {
        c.at("default", |c| c.forbidden(format!("must not be set {why}")));
    }
    let filled = |name: &str| match s.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::String(text)) => !text.is_empty() || name == "$ref",
        Some(_) => true,
    };
    for name in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if filled(name) {
            c.at(name, |c| c.forbidden(format!("{name} is not supported")));
        }
    }
    if kind == "null" {
        c.at("type", |c| {
            c.forbidden("type cannot be set to null, use nullable as an alternative")
        });
    }
    if s.get("items")
        .and_then(Value::as_array)
        .is_some_and(|l| !l.is_empty())
    {
        c.at("items", |c| {
            c.forbidden("items must be a schema object and not an array")
        });
    }
    if place.in_meta && bool_at(s, "x-kubernetes-embedded-resource") == Some(true) {
        c.at("x-kubernetes-embedded-resource", |c| {
            c.forbidden("must not be used inside of resource meta")
        });
    }
}

/// A type that an extension asks for.
fn needs_type(kind: &str, wanted: &str, extension: &str, c: &mut Causes) {
    let why = format!("must be {wanted} if {extension} is specified");
    c.at("type", |c| match kind {
        "" => c.required(why),
        kind => c.invalid(&json!(kind), why),
    });
}

fn extensions(s: &Value, place: &Place, c: &mut Causes) {
    let kind = str_at(s, "type");
    let keep = "x-kubernetes-preserve-unknown-fields";
    if s.get(keep) == Some(&Value::Bool(false)) {
        c.at(keep, |c| {
            c.invalid(&json!(false), "must be true or undefined")
        });
    }
    if let Some(map) = s.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if kind != "object" {
            needs_type(kind, "object", "x-kubernetes-map-type", c);
        }
        if !["atomic", "granular"].contains(&map) {
            c.at("x-kubernetes-map-type", |c| {
                c.not_supported_in_order(&json!(map), &["atomic", "granular"])
            });
        }
    }
    let Some(list) = s.get("x-kubernetes-list-type").and_then(Value::as_str) else {
        return;
    };
    if kind != "array" {
        needs_type(kind, "array", "x-kubernetes-list-type", c);
    } else if list == "set" && place.required.atomic_sets {
        set_items(&s["items"], c);
    }
    if !["atomic", "set", "map"].contains(&list) {
        c.at("x-kubernetes-list-type", |c| {
            c.not_supported_in_order(&json!(list), &["atomic", "set", "map"])
        });
    }
}

/// Items of a set must be one value each.
pub fn set_items(items: &Value, c: &mut Causes) {
    let own = items
        .get("x-kubernetes-list-type")
        .filter(|v| v.is_string());
    let map = str_at(items, "x-kubernetes-map-type");
    let field = match str_at(items, "type") {
        "array" if own.is_some_and(|l| l != "atomic") => "x-kubernetes-list-type",
        "object" if map != "atomic" => "x-kubernetes-map-type",
        _ => return,
    };
    let shown = own.map_or_else(|| "null".into(), go_json);
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    c.at("items", |c| {
        c.at(field, |c| c.shown(CauseKind::Invalid, shown, why))
    });
}

fn map_keys(s: &Value, c: &mut Causes) {
    let keys = list_at(s, "x-kubernetes-list-map-keys");
    let list = s.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && list != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        c.at("x-kubernetes-list-type", |c| match list {
            None => c.required(why),
            Some(list) => c.invalid(&json!(list), why),
        });
    }
    if list != Some("map") {
        return;
    }
    let shown = go_json(&json!(keys));
    let at_keys = |c: &mut Causes, why: &str| {
        c.at("x-kubernetes-list-map-keys", |c| {
            c.shown(CauseKind::Invalid, shown.clone(), why)
        });
    };
    if keys.is_empty() {
        c.at("x-kubernetes-list-map-keys", |c| {
            c.required("must not be empty if x-kubernetes-list-type is map");
        });
    }
    let items = match field(s, "items") {
        None => {
            return c.at("items", |c| {
                c.required("must have a schema if x-kubernetes-list-type is map")
            });
        }
        Some(Value::Array(_)) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            return c.at("items", |c| {
                c.shown(CauseKind::Invalid, internal::items(&s["items"]), why)
            });
        }
        Some(items) => items,
    };
    let kind = str_at(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return c.at("items", |c| c.at("type", |c| c.invalid(&json!(kind), why)));
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or("");
        match items.get("properties").and_then(|p| p.get(name)) {
            None => at_keys(c, "entries must all be names of item properties"),
            Some(p) if ["array", "object"].contains(&str_at(p, "type")) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                c.at("items", |c| {
                    c.at("properties", |c| {
                        c.key(name, |c| c.at("type", |c| c.invalid(&json!(kind), why)))
                    });
                });
            }
            Some(_) => {}
        }
        if keys[..i].contains(key) {
            at_keys(c, "must not contain duplicate entries");
        }
    }
}

/// Items of sets and maps are never null, and keys always there.
pub fn unique(s: &Value, c: &mut Causes) {
    let list = str_at(s, "x-kubernetes-list-type");
    let Some(items) = s
        .get("items")
        .filter(|i| i.is_object() && ["set", "map"].contains(&list))
    else {
        return;
    };
    c.at("items", |c| {
        if bool_at(items, "nullable") == Some(true) {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {list}");
            c.at("nullable", |c| c.forbidden(why));
        }
        if list != "map" {
            return;
        }
        for key in list_at(s, "x-kubernetes-list-map-keys") {
            let name = key.as_str().unwrap_or("");
            let Some(property) = items.get("properties").and_then(|p| p.get(name)) else {
                continue;
            };
            c.at("properties", |c| {
                c.key(name, |c| key_property(items, key, property, c))
            });
        }
    });
}

fn key_property(items: &Value, key: &Value, property: &Value, c: &mut Causes) {
    if !list_at(items, "required").contains(key) && field(property, "default").is_none() {
        c.at("default", |c| {
            c.required("this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
        });
    }
    if bool_at(property, "nullable") == Some(true) {
        c.at("nullable", |c| {
            c.forbidden("this property is in x-kubernetes-list-map-keys, so it cannot be nullable");
        });
    }
}

fn validations(s: &Value, c: &mut Causes) {
    let rules = list_at(s, "x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    c.at("x-kubernetes-validations", |c| {
        for (i, rule) in rules.iter().filter_map(Value::as_object).enumerate() {
            c.index(i, |c| validation(s, rule, c));
        }
    });
}

fn validation(s: &Value, rule: &Map<String, Value>, c: &mut Causes) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("");
    let (source, message, expression) = (
        text("rule").trim(),
        text("message"),
        text("messageExpression"),
    );
    let breaks = |t: &str| t.contains(['\n', '\r']);
    if source.is_empty() {
        c.at("rule", |c| c.required("rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        c.at("message", |c| {
            c.invalid(&json!(message), "must be non-empty if specified")
        });
    } else if breaks(message.trim()) {
        c.at("message", |c| {
            c.invalid(&json!(message), "must not contain line breaks")
        });
    } else if breaks(source) && message.is_empty() {
        c.at("message", |c| {
            c.required("message must be specified if rule contains line breaks")
        });
    }
    if !expression.is_empty() && expression.trim().is_empty() {
        c.at("messageExpression", |c| {
            c.required("messageExpression must be non-empty if specified")
        });
    }
    if let Some(reason) = rule
        .get("reason")
        .and_then(Value::as_str)
        .filter(|r| !REASONS.contains(r))
    {
        c.at("reason", |c| {
            c.not_supported_in_order(&json!(reason), &REASONS)
        });
    }
    let path = text("fieldPath");
    if path.is_empty() {
        return;
    }
    c.at("fieldPath", |c| {
        if path.trim().is_empty() {
            c.invalid(&json!(path), "must be non-empty if specified");
        }
        if breaks(path) {
            c.invalid(&json!(path), "must not contain line breaks");
        }
        if unsupported(s).is_none() && field_path(path, &Structural::parse(s), true).is_err() {
            c.invalid(&json!(path), "must be a valid path");
        }
    });
}
