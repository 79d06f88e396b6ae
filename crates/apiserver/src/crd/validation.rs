//! What may stand in a CustomResourceDefinition.
//! Upstream: apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go, on its internal type: what all
//! versions share stands beside them, under names of its own.

pub mod approval;
mod conversion;
mod defaults;
mod internal;
pub mod ratchet;
mod schema;
mod structural;
mod unsupported;

use std::collections::HashSet;

use api::names;
use machinery::Causes;
use machinery::causes::CauseKind;
use machinery::object::{bool_at, list_at, map_at, remove, str_at};
use serde_json::{Value, json};

use super::plan;
use super::structural::{Before, JsonType, Structural, field_path};

pub use internal::rule as internal_rule;
use ratchet::Required;
use unsupported::unsupported;

/// Selectable fields of one version.
const SELECTABLE_MAX: usize = 8;

/// Where the internal type has a field of versions that all have the same.
const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// Fields of schemas that are the same empty and missing.
const EMPTY: [&str; 13] = [
    "properties",
    "patternProperties",
    "definitions",
    "dependencies",
    "required",
    "enum",
    "allOf",
    "anyOf",
    "oneOf",
    "additionalPrinterColumns",
    "selectableFields",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
];

/// Whether two values are the same to upstream, which does not tell empty lists and maps from missing ones.
pub fn same(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else {
        return match (a.as_array(), b.as_array()) {
            (Some(x), Some(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
            _ => a == b,
        };
    };
    let empty = |v: &Value| match v {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let alike =
        |(k, v): (&String, &Value), other: &serde_json::Map<String, Value>| match other.get(k) {
            Some(w) => same(v, w),
            None => EMPTY.contains(&k.as_str()) && empty(v),
        };
    x.iter().all(|f| alike(f, y)) && y.iter().all(|f| alike(f, x))
}

/// Whether all versions have the same in a field.
fn is_shared(all: &[Value], field: &str) -> bool {
    let of = |v: &Value| match v.get(field) {
        Some(list @ Value::Array(items)) if !items.is_empty() => list.clone(),
        None | Some(Value::Array(_)) => Value::Null,
        Some(other) => other.clone(),
    };
    let first = all.first().map(of).unwrap_or_default();
    all.iter().all(|v| same(&of(v), &first))
}

/// Checks a new definition, or a changed one.
pub fn validate(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    if before.is_none() {
        name(obj, c);
    }
    c.at("spec", |c| spec(obj, before, c));
    c.at("status", |c| {
        c.at("acceptedNames", |c| {
            accepted(&obj["status"]["acceptedNames"], c)
        });
    });
    stored_versions(obj, c);
    approval::validate(obj, before, c);
    if preserves(obj) && !before.is_some_and(preserves) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        c.at("spec", |c| {
            c.at("preserveUnknownFields", |c| c.invalid(&json!(true), why))
        });
    }
}

/// Checks a definition whose status is written.
pub fn validate_status(obj: &Value, c: &mut Causes) {
    c.at("status", |c| {
        c.at("acceptedNames", |c| {
            accepted(&obj["status"]["acceptedNames"], c)
        });
    });
}

fn name(obj: &Value, c: &mut Causes) {
    let wanted = format!(
        "{}.{}",
        str_at(obj, "spec.names.plural"),
        str_at(obj, "spec.group")
    );
    for field in ["generateName", "name"] {
        let name = str_at(obj, &format!("metadata.{field}"));
        if !name.is_empty() && name != wanted {
            let why = "must be spec.names.plural+\".\"+spec.group";
            c.at("metadata", |c| {
                c.at(field, |c| c.invalid(&json!(name), why));
            });
        }
    }
}

/// Adds problems of a text as one.
fn problems(text: &str, found: &[String], c: &mut Causes) {
    if !found.is_empty() {
        c.invalid(&json!(text), found.join(","));
    }
}

fn spec(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    let group = str_at(obj, "spec.group");
    c.at("group", |c| match group {
        "" => c.required(""),
        g => match names::dns1123_subdomain(g).as_slice() {
            [] if !g.contains('.') => {
                c.invalid(&json!(g), "should be a domain with at least one dot")
            }
            found => problems(g, found, c),
        },
    });
    c.at("scope", |c| match str_at(obj, "spec.scope") {
        "" => c.required(""),
        "Cluster" | "Namespaced" => {}
        other => c.not_supported_in_order(&json!(other), &["Cluster", "Namespaced"]),
    });
    let all = list_at(obj, "spec.versions");
    let required = Required::of(obj, before);
    let preserves = preserves(obj);
    for (i, v) in all.iter().enumerate() {
        let why = match required.schemas {
            true => "",
            false if !preserves && bool_at(v, "served") == Some(true) => {
                "because otherwise all fields are pruned"
            }
            false => continue,
        };
        if schema_of(v).is_none() {
            c.at("versions", |c| {
                c.index(i, |c| {
                    c.at("schema", |c| c.at("openAPIV3Schema", |c| c.required(why)))
                });
            });
        }
    }
    let defaults = |v: &Value| schema_of(v).is_some_and(|s| any(s, &has_defaults));
    if preserves && all.iter().any(defaults) {
        let why = "must be false in order to use defaults in the schema";
        c.at("preserveUnknownFields", |c| c.invalid(&json!(true), why));
    }
    let given = obj.pointer("/spec/versions").is_some_and(Value::is_array);
    let known = (required, before);
    versions(all, given, known, c);
    let names = &obj["spec"]["names"];
    c.at("names", |c| {
        for field in ["plural", "singular", "kind", "listKind"] {
            if str_at(names, field).is_empty() {
                c.at(field, |c| c.required(""));
            }
        }
        accepted(names, c);
    });
    if let Some(first) = all.first() {
        let has_status = all.iter().any(has_status);
        // What versions share is looked at without what they do not.
        let mut alone = first.clone();
        if !is_shared(all, "schema") {
            remove(&mut alone, "schema");
        }
        for (field, shared) in SHARED.iter().filter(|(f, _)| is_shared(all, f)) {
            c.at(shared, |c| {
                part(field, &alone, (has_status, true), known, c)
            });
        }
    }
    let strategy = str_at(obj, "spec.conversion.strategy");
    if preserves && strategy != "None" && obj["spec"]["conversion"].is_object() {
        let why = "must be None if spec.preserveUnknownFields is true";
        c.at("conversion", |c| {
            c.at("strategy", |c| c.invalid(&json!(strategy), why))
        });
    }
    c.at("conversion", |c| {
        conversion::validate(&obj["spec"]["conversion"], before, c)
    });
    if let Some(before) = before {
        immutable(obj, before, c);
    }
}

/// What is required of a definition, and the one before.
type Known<'a> = (Required, Option<&'a Value>);

/// `spec.preserveUnknownFields`, which only old definitions have.
pub fn preserves(definition: &Value) -> bool {
    bool_at(definition, "spec.preserveUnknownFields") == Some(true)
}

fn has_defaults(schema: &Value) -> bool {
    schema.get("default").is_some_and(|d| !d.is_null())
}

fn schema_of(version: &Value) -> Option<&Value> {
    version
        .pointer("/schema/openAPIV3Schema")
        .filter(|s| !s.is_null())
}

fn has_status(version: &Value) -> bool {
    map_at(version, "subresources.status").is_some()
}

/// Whether a schema or one within it is so.
fn any(s: &Value, f: &dyn Fn(&Value) -> bool) -> bool {
    f(s) || within(s).into_iter().any(|s| any(s, f))
}

/// The schemas directly within a schema, in upstream's order.
fn within(s: &Value) -> Vec<&Value> {
    let mut out = Vec::new();
    for name in [
        "items",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "properties",
        "additionalProperties",
        "patternProperties",
        "additionalItems",
        "definitions",
        "dependencies",
    ] {
        let by_name = [
            "properties",
            "patternProperties",
            "definitions",
            "dependencies",
        ]
        .contains(&name);
        match s.get(name) {
            Some(Value::Object(map)) if by_name => {
                out.extend(map.values().filter(|v| v.is_object()))
            }
            Some(v @ Value::Object(_)) => out.push(v),
            Some(Value::Array(all)) => out.extend(all),
            _ => {}
        }
    }
    out
}

fn versions(all: &[Value], given: bool, known: Known<'_>, c: &mut Causes) {
    for (i, v) in all.iter().enumerate() {
        c.at("versions", |c| {
            c.index(i, |c| {
                let name = str_at(v, "name");
                c.at("name", |c| problems(name, &names::dns1035_label(name), c));
                deprecation(v, c);
                for (field, _) in SHARED.iter().filter(|(f, _)| !is_shared(all, f)) {
                    c.at(field, |c| part(field, v, (has_status(v), false), known, c));
                }
            });
        });
    }
    let whole = |c: &mut Causes, why: &str| {
        c.at("versions", |c| {
            let shown = match given {
                true => internal::versions(all),
                false => "null".into(),
            };
            c.shown(CauseKind::Invalid, shown, why);
        });
    };
    let mut seen = HashSet::new();
    if !all.iter().all(|v| seen.insert(str_at(v, "name"))) {
        whole(c, "must contain unique version names");
    }
    if all
        .iter()
        .filter(|v| bool_at(v, "storage") == Some(true))
        .count()
        != 1
    {
        whole(c, "must have exactly one version marked as storage version");
    }
    let first = all.first().map_or("", |v| str_at(v, "name"));
    if !first.is_empty() {
        c.at("version", |c| {
            problems(first, &names::dns1035_label(first), c)
        });
    }
}

fn deprecation(v: &Value, c: &mut Causes) {
    let Some(text) = v.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    // A pointer to a text is shown as JSON.
    let shown = machinery::causes::go_json(&json!(text));
    let mut bad = |why: &str| {
        c.at("deprecationWarning", |c| {
            c.shown(CauseKind::Invalid, shown.clone(), why);
        });
    };
    if bool_at(v, "deprecated") != Some(true) {
        return bad("can only be set for deprecated versions");
    }
    if text.len() > 256 {
        bad("must be <= 256 characters long");
    }
    if text.is_empty() {
        bad("must not be an empty string");
    }
    if let Some((i, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        bad(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
}

/// Checks a field of a version at the path that it has, which all versions may share; with the definition before.
fn part(
    field: &str,
    v: &Value,
    (has_status, shared): (bool, bool),
    (required, before): Known<'_>,
    c: &mut Causes,
) {
    match field {
        "schema" => {
            if let Some(schema) = schema_of(v) {
                let before = before.map(|b| Before::of(b, str_at(v, "name"), schema));
                let before = before.unwrap_or_default();
                self::schema::validate(schema, has_status, (required, &before), c);
            }
        }
        "subresources" => subresources(v, c),
        "additionalPrinterColumns" => {
            for (i, column) in list_at(v, field).iter().enumerate() {
                c.index(i, |c| printer_column(column, c));
            }
        }
        _ => selectable(v, shared, before, c),
    }
}

fn selectable(v: &Value, shared: bool, before: Option<&Value>, c: &mut Causes) {
    let all = list_at(v, "selectableFields");
    if all.is_empty() {
        return;
    }
    let Some(schema) = schema_of(v) else {
        // Upstream's words, the wrong one among them.
        let why = match shared {
            true => "may only be set when validations.schema is included",
            false => "may only be set when `version.schema.openAPIV3Schema` is not included",
        };
        return c.invalid(&json!(""), why);
    };
    if let Some(why) = unsupported(schema) {
        // Upstream goes on, and panics over the first path that begins well.
        let beside = c.path().trim_end_matches("selectableFields").to_string();
        let mut found = Causes::new();
        found.at(&format!("{beside}schema.openAPIV3Schema"), |c| {
            c.invalid(&json!(""), why)
        });
        found.as_slice().iter().for_each(|f| c.add(f.clone()));
    }
    let schema = Structural::parse(schema);
    let mut seen = HashSet::new();
    for (i, field) in all.iter().enumerate() {
        let text = str_at(field, "jsonPath");
        c.index(i, |c| {
            c.at("jsonPath", |c| {
                if text.is_empty() {
                    return c.required("");
                }
                let (path, found) = match field_path(text, &schema, false) {
                    Ok(found) => found,
                    Err(e) => return c.invalid(&json!(text), format!("is an invalid path: {e}")),
                };
                if path == "metadata" || path.starts_with("metadata.") {
                    c.invalid(&json!(text), "must not point to fields in metadata");
                }
                if !matches!(found.and_then(|f| f.kind), Some(JsonType::String | JsonType::Boolean | JsonType::Integer)) {
                    c.invalid(&json!(text), "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
                }
                if !seen.insert(path) {
                    c.duplicate(&json!(text));
                }
            });
        });
    }
    if seen.len() > SELECTABLE_MAX && !ratchet::keeps_selectable(v, before) {
        c.too_many(seen.len(), SELECTABLE_MAX);
    }
}

/// Checks that a path begins with a dot.
fn simple_path(path: &str, c: &mut Causes) -> bool {
    let good = path.starts_with('.');
    if !good {
        c.invalid(&json!(path), "must be a simple json path starting with .");
    }
    good
}

fn subresources(v: &Value, c: &mut Causes) {
    if map_at(v, "subresources.scale").is_none() {
        return;
    }
    for (field, roots, why) in [
        (
            "specReplicasPath",
            &[".spec."][..],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = str_at(v, &format!("subresources.scale.{field}"));
        c.at(&format!("scale.{field}"), |c| match path {
            "" if field == "labelSelectorPath" => {}
            "" => c.required(""),
            p if simple_path(p, c) && !roots.iter().any(|r| p.starts_with(r)) => {
                c.invalid(&json!(p), why)
            }
            _ => {}
        });
    }
}

fn printer_column(column: &Value, c: &mut Causes) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    if str_at(column, "name").is_empty() {
        c.at("name", |c| c.required(""));
    }
    let types = format!("must be one of {}", TYPES.join(","));
    c.at("type", |c| match str_at(column, "type") {
        "" => c.required(types),
        t if TYPES.contains(&t) => {}
        t => c.invalid(&json!(t), types),
    });
    let format = str_at(column, "format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        c.at("format", |c| {
            c.invalid(
                &json!(format),
                format!("must be one of {}", FORMATS.join(",")),
            )
        });
    }
    c.at("JSONPath", |c| match str_at(column, "jsonPath") {
        "" => c.required(""),
        path => {
            simple_path(path, c);
        }
    });
}

/// Checks names that are there.
fn accepted(n: &Value, c: &mut Causes) {
    for field in ["plural", "singular"] {
        let text = str_at(n, field);
        if !text.is_empty() {
            c.at(field, |c| problems(text, &names::dns1035_label(text), c));
        }
    }
    for field in ["kind", "listKind"] {
        let text = str_at(n, field);
        let found = names::dns1035_label(&text.to_lowercase()).join(",");
        if !text.is_empty() && !found.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {found}");
            c.at(field, |c| c.invalid(&json!(text), why));
        }
    }
    let labels = |field: &str, c: &mut Causes| {
        c.at(field, |c| {
            for (i, v) in list_at(n, field).iter().enumerate() {
                let text = v.as_str().unwrap_or("");
                c.index(i, |c| problems(text, &names::dns1035_label(text), c));
            }
        });
    };
    labels("shortNames", c);
    let kind = str_at(n, "kind");
    if !kind.is_empty() && kind == str_at(n, "listKind") {
        c.at("listKind", |c| {
            c.invalid(&n["listKind"], "kind and listKind may not be the same")
        });
    }
    labels("categories", c);
}

fn immutable(obj: &Value, before: &Value, c: &mut Causes) {
    let mut paths = vec!["group", "names.plural"];
    if plan::is_true(before, "Established") {
        paths.splice(0..0, ["scope", "names.kind"]);
    }
    for path in paths {
        let of = |o: &Value| str_at(o, &format!("spec.{path}")).to_string();
        if of(obj) != of(before) {
            c.at(path, |c| c.invalid(&json!(of(obj)), "field is immutable"));
        }
    }
}

fn stored_versions(obj: &Value, c: &mut Causes) {
    let stored = list_at(obj, "status.storedVersions");
    let versions = list_at(obj, "spec.versions");
    c.at("status", |c| c.at("storedVersions", |c| {
        if stored.is_empty() {
            return c.invalid(&Value::Null, "must have at least one stored version");
        }
        for v in versions {
            let name = str_at(v, "name");
            if bool_at(v, "storage") == Some(true) && !stored.contains(&json!(name)) {
                c.invalid(&json!(stored), format!("must have the storage version {name}"));
            }
        }
        for (i, v) in stored.iter().enumerate() {
            let name = v.as_str().unwrap_or("");
            if !versions.iter().any(|v| str_at(v, "name") == name) {
                c.index(i, |c| c.invalid(v, format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
                )));
            }
        }
    }));
}

/// The condition NonStructuralSchema: status, reason, message.
pub fn non_structural(obj: &Value) -> Option<(&'static str, &'static str, String)> {
    // Others cannot be written without structure.
    if !preserves(obj) {
        return None;
    }
    let mut c = Causes::new();
    c.at("spec.preserveUnknownFields", |c| {
        c.invalid(&json!(true), "must be false")
    });
    for (i, v) in list_at(obj, "spec.versions").iter().enumerate() {
        let Some(schema) = schema_of(v) else { continue };
        if let Some(why) = unsupported(schema) {
            let name = str_at(v, "name");
            let message = format!("failed to check validation schema for version {name}: {why}");
            return Some(("Unknown", "StructuralError", message));
        }
        c.at(&format!("spec.versions[{i}].schema.openAPIV3Schema"), |c| {
            structural::validate(schema, c);
        });
    }
    let texts: Vec<String> = c
        .as_slice()
        .iter()
        .map(machinery::causes::Cause::text)
        .collect();
    let message = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Some(("True", "Violations", message))
}

/// What a client is told of a definition that passes: formats that nothing checks, sets of what is no scalar.
pub fn warnings(obj: &Value, before: Option<&Value>) -> Vec<String> {
    let of = |o: &Value, f: &dyn Fn(&Value) -> Option<String>| {
        let all = list_at(o, "spec.versions");
        let count = if is_shared(all, "schema") {
            1
        } else {
            all.len()
        };
        let mut out = Vec::new();
        for schema in all.iter().take(count).filter_map(schema_of) {
            collect(schema, f, &mut out);
        }
        out
    };
    let mut out = Vec::new();
    for (f, sorted) in [
        (&odd_format as &dyn Fn(&Value) -> Option<String>, false),
        (&odd_set, true),
    ] {
        let known = before.map(|b| of(b, f)).unwrap_or_default();
        let mut found = of(obj, f);
        if sorted {
            found.sort_unstable();
            found.dedup();
        }
        out.extend(found.into_iter().filter(|w| !known.contains(w)));
    }
    out
}

fn collect(s: &Value, f: &dyn Fn(&Value) -> Option<String>, out: &mut Vec<String>) {
    out.extend(f(s));
    for below in within(s) {
        collect(below, f, out);
    }
}

fn odd_format(s: &Value) -> Option<String> {
    let format = str_at(s, "format");
    let kind = str_at(s, "type");
    let known = super::structural::is_supported(JsonType::of(kind), format);
    (!format.is_empty() && !known).then(|| {
        format!(
            "unrecognized format {}",
            machinery::causes::go_quote(format)
        )
    })
}

fn odd_set(s: &Value) -> Option<String> {
    let kind = s.get("items").map_or("", |i| str_at(i, "type"));
    let odd = str_at(s, "x-kubernetes-list-type") == "set" && ["object", "array"].contains(&kind);
    odd.then(|| format!("x-kubernetes-list-type: set for items of type \"{kind}\" is not supported by server-side apply or CEL validation rules"))
}
