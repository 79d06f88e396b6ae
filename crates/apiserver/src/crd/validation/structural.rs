//! What makes a schema structural. Upstream: apiextensions-apiserver/pkg/apiserver/schema/{validation,complete,convert}.go.

use machinery::Causes;
use machinery::object::{bool_at, list_at, str_at};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn is(s: &Value, flag: &str) -> bool {
    bool_at(s, flag) == Some(true)
}

/// Checks a whole schema at the current path.
pub fn validate(s: &Value, c: &mut Causes) {
    let begun = c.len();
    invariants(s, Level::Root, c);
    let path = c.path().to_string();
    complete_value(s, Some(s), &path, c);
    c.sort_from(begun);
}

fn properties(s: &Value) -> impl Iterator<Item = (&String, &Value)> {
    s.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn invariants(s: &Value, level: Level, c: &mut Causes) {
    let kind = str_at(s, "type");
    let items = s.get("items").filter(|i| i.is_object());
    if kind == "array" && items.is_none() {
        c.at("items", |c| c.required("must be specified"));
    }
    if let Some(items) = items {
        c.at("items", |c| invariants(items, Level::Item, c));
    }
    c.at("properties", |c| {
        for (name, below) in properties(s) {
            c.key(name, |c| invariants(below, Level::Field, c));
        }
    });
    let values = s.get("additionalProperties").filter(|v| !v.is_null());
    if let Some(values) = values {
        c.at("additionalProperties", |c| {
            if level == Level::Root {
                c.forbidden("must not be used at the root");
            }
            if values.is_object() {
                invariants(values, Level::Field, c);
            }
        });
    }
    if is(s, INT_OR_STRING) {
        for name in [PRESERVE, EMBEDDED] {
            if is(s, name) {
                let why = "must be false if x-kubernetes-int-or-string is true";
                c.at(name, |c| c.invalid(&json!(true), why));
            }
        }
    }
    let either = is_int_or_string(list_at(s, "anyOf"));
    let first = list_at(s, "allOf")
        .first()
        .is_some_and(|f| is_int_or_string(list_at(f, "anyOf")));
    value(s, either, first, c);
    kinds(s, kind, level, c);
    if is(s, EMBEDDED) && values.is_some() {
        c.at("additionalProperties", |c| {
            c.forbidden("must not be used if x-kubernetes-embedded-resource is set");
        });
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        c.at("type", |c| {
            c.invalid(&json!(kind), "must be object at the root")
        });
    }
    resource_fields(s, level, c);
    if is(s, EMBEDDED) && !is(s, PRESERVE) && properties(s).next().is_none() {
        c.at("properties", |c| {
            c.required("must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
        });
    }
}

fn kinds(s: &Value, kind: &str, level: Level, c: &mut Causes) {
    c.at("type", |c| {
        if is(s, EMBEDDED) && kind != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            match kind {
                "" => c.required(why),
                kind => c.invalid(&json!(kind), why),
            }
        } else if kind.is_empty() && !is(s, INT_OR_STRING) && !is(s, PRESERVE) {
            c.required(match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            });
        }
    });
}

/// Kind, version and metadata of resources.
fn resource_fields(s: &Value, level: Level, c: &mut Causes) {
    let resource = level == Level::Root || is(s, EMBEDDED);
    c.at("properties", |c| {
        for (name, below) in properties(s).filter(|_| resource) {
            let kind = str_at(below, "type");
            if ["apiVersion", "kind"].contains(&name.as_str()) && kind != "string" {
                c.key(name, |c| c.at("type", |c| c.invalid(&json!(kind), "must be string")));
            }
        }
        let Some(metadata) = s.get("properties").and_then(|p| p.get("metadata")) else { return };
        c.key("metadata", |c| {
            let kind = str_at(metadata, "type");
            if resource && kind != "object" {
                c.at("type", |c| c.invalid(&json!(kind), "must be object"));
            }
            if level == Level::Root && !is_bare_metadata(metadata) {
                c.forbidden("must not specify anything other than name and generateName, but metadata is implicitly specified");
            }
        });
    });
}

fn is_bare_metadata(s: &Value) -> bool {
    let zero = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::String(t) => t.is_empty(),
        Value::Array(l) => l.is_empty(),
        _ => false,
    };
    let fits = |(key, v): (&String, &Value)| match (key.as_str(), v) {
        ("type" | "default", _) => true,
        ("properties", Value::Object(map)) => map
            .keys()
            .all(|k| ["name", "generateName"].contains(&k.as_str())),
        _ => zero(v),
    };
    s.as_object().is_some_and(|map| map.iter().all(fits))
}

/// The two alternatives that int-or-string may have.
fn is_int_or_string(any: &[Value]) -> bool {
    any.len() == 2 && any[0] == json!({"type": "integer"}) && any[1] == json!({"type": "string"})
}

fn value(s: &Value, skip_any: bool, skip_first: bool, c: &mut Causes) {
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && skip_any {
            continue;
        }
        c.at(name, |c| {
            for (i, one) in list_at(s, name).iter().enumerate() {
                let skip = name == "allOf" && skip_first && i == 0;
                c.index(i, |c| nested(one, skip, c));
            }
        });
    }
    if let Some(not) = s.get("not").filter(|n| n.is_object()) {
        c.at("not", |c| nested(not, false, c));
    }
    let pattern = str_at(s, "pattern");
    if let Err(e) = stdx::regexp::translated(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {e}");
        c.at("pattern", |c| c.invalid(&json!(pattern), why));
    }
}

/// A schema within logic: it judges values and adds no structure.
fn nested(s: &Value, skip_any: bool, c: &mut Causes) {
    value(s, skip_any, false, c);
    if let Some(items) = s.get("items").filter(|i| i.is_object()) {
        c.at("items", |c| nested(items, false, c));
    }
    c.at("properties", |c| {
        for (name, below) in properties(s) {
            c.key(name, |c| nested(below, false, c));
        }
        if s.get("properties")
            .is_some_and(|p| p.get("metadata").is_some())
        {
            c.key("metadata", |c| {
                c.forbidden("must not be specified in a nested context")
            });
        }
    });
    for (name, what) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        (PRESERVE, "false"),
        (EMBEDDED, "false"),
        (INT_OR_STRING, "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let set = match s.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(false)) => name == "default",
            Some(Value::String(t)) => !t.is_empty() || what == "undefined",
            Some(Value::Array(l)) => !l.is_empty() || name == "default",
            Some(_) => true,
        };
        if set {
            c.at(name, |c| {
                c.forbidden(format!("must be {what} to be structural"))
            });
        }
    }
}

/// What logic judges must be there outside of it. `at` is the path of the structure.
fn complete_value(v: &Value, s: Option<&Value>, at: &str, c: &mut Causes) {
    if let Some(not) = v.get("not").filter(|n| n.is_object()) {
        c.at("not", |c| complete(not, s, at, c));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        c.at(name, |c| {
            for (i, one) in list_at(v, name).iter().enumerate() {
                c.index(i, |c| complete(one, s, at, c));
            }
        });
    }
}

fn complete(v: &Value, s: Option<&Value>, at: &str, c: &mut Causes) {
    let Some(s) = s else { return missing(at, c) };
    complete_value(v, Some(s), at, c);
    if let Some(items) = v.get("items").filter(|i| i.is_object()) {
        let below = s.get("items").filter(|i| i.is_object());
        c.at("items", |c| {
            complete(items, below, &format!("{at}.items"), c)
        });
    }
    c.at("properties", |c| {
        for (name, schema) in properties(v) {
            let below = s.get("properties").and_then(|p| p.get(name));
            c.key(name, |c| {
                complete(schema, below, &format!("{at}.properties[{name}]"), c)
            });
        }
    });
}

fn missing(at: &str, c: &mut Causes) {
    c.add(machinery::causes::Cause {
        kind: machinery::causes::CauseKind::Required,
        field: at.into(),
        value: None,
        detail: format!("because it is defined in {}", c.path()),
    });
}
