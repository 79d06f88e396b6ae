//! Whether a value is what its type says. Upstream: structured-merge-diff/typed/validate.go.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::fields::Element;
use super::types::{Form, List, MapType, Scalar, TypeRef};
use crate::causes::go_type;

/// What is wrong, with the path before it.
pub type Problems = Vec<(String, String)>;

/// One line, or several under `errors:`.
pub fn text(problems: &Problems) -> String {
    let one = |(path, why): &(String, String)| {
        if path.is_empty() {
            why.clone()
        } else {
            format!("{path}: {why}")
        }
    };
    match problems.as_slice() {
        [only] => one(only),
        many => {
            let lines: Vec<String> = many.iter().map(|p| format!("  {}", one(p))).collect();
            format!("errors:\n{}", lines.join("\n"))
        }
    }
}

/// Which path leads to a list item, or why none does.
pub fn item_element(list: &List<'_>, item: &Value) -> Result<Element, String> {
    let names = list.keys.names();
    if names.is_empty() {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".into())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            scalar => Ok(Element::Value(scalar.to_string())),
        };
    }
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => {
            return Err("associative list with keys may not have a null element".into());
        }
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut keys = Map::new();
    for name in &names {
        let value = fields
            .get(*name)
            .cloned()
            .or_else(|| list.item.default_of(name));
        if let Some(value) = value {
            keys.insert((*name).to_string(), value);
        }
    }
    if keys.is_empty() {
        let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    Ok(Element::key(&keys))
}

/// Checks a value; `duplicates` lets list items repeat.
pub fn validate(t: TypeRef<'_>, value: &Value, duplicates: bool) -> Problems {
    let mut check = Check {
        duplicates,
        problems: Problems::new(),
    };
    check.walk(t, value, &Path::Root);
    check.problems
}

/// How a value is reached. It becomes text only where something is wrong.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, &'a Element),
}

impl Path<'_> {
    fn is_metadata(&self) -> bool {
        matches!(self, Path::Field(Path::Root, "metadata"))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(above, name) => write!(f, "{above}.{name}"),
            Path::Item(above, element) => write!(f, "{above}{element}"),
        }
    }
}

struct Check {
    duplicates: bool,
    problems: Problems,
}

fn go(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => format!("&{{{}}}", go_value(value)),
        other => format!("&{{{}}}", go_value(other)),
    }
}

/// Go's `%v` of a decoded JSON value.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let all: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", go_value(v)))
                .collect();
            format!("map[{}]", all.join(" "))
        }
        other => other.to_string(),
    }
}

fn scalar_problem(s: Scalar, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match s {
        Scalar::Numeric if !value.is_number() => Some(format!(
            "expected numeric (int or float), got {}",
            go_type(value)
        )),
        Scalar::String if !value.is_string() => {
            let shown = match value {
                Value::String(_) | Value::Object(_) | Value::Array(_) => go_syntax(value),
                other => other.to_string(),
            };
            Some(format!(
                "expected string, got &value.valueUnstructured{{Value:{shown}}}"
            ))
        }
        Scalar::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got {}", go(value)))
        }
        Scalar::Untyped if value.is_object() || value.is_array() => {
            Some(format!("expected any scalar, got {}", go(value)))
        }
        _ => None,
    }
}

/// Go's `%#v` of a decoded JSON value.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", all.join(", "))
        }
        Value::Object(map) => {
            let all: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("\"{k}\":{}", go_syntax(v)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", all.join(", "))
        }
        other => other.to_string(),
    }
}

impl Check {
    fn refuse(&mut self, path: &Path<'_>, why: String) {
        self.problems.push((path.to_string(), why));
    }

    fn walk(&mut self, t: TypeRef<'_>, value: &Value, path: &Path<'_>) {
        match t.form(Some(value)) {
            Form::Scalar(s) => {
                if let Some(why) = scalar_problem(s, value) {
                    self.refuse(path, why);
                }
            }
            Form::List(l) => self.list(&l, value, path),
            Form::Map(m) => self.map(&m, value, path),
        }
    }

    fn list(&mut self, l: &List<'_>, value: &Value, path: &Path<'_>) {
        let items = match value {
            Value::Null => return,
            Value::Array(items) => items,
            other => return self.refuse(path, format!("expected list, got {}", go(other))),
        };
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let element = if l.atomic {
                Element::Index(i as i64)
            } else {
                match item_element(l, item) {
                    Ok(e) => e,
                    Err(why) => return self.refuse(path, format!("element {i}: {why}")),
                }
            };
            if !l.atomic && !self.duplicates && !seen.insert(element.clone()) {
                self.refuse(path, format!("duplicate entries for key {element}"));
            }
            self.walk(l.item, item, &Path::Item(path, &element));
        }
    }

    fn map(&mut self, m: &MapType<'_>, value: &Value, path: &Path<'_>) {
        let fields = match value {
            Value::Null => return,
            Value::Object(fields) => fields,
            other => return self.refuse(path, format!("expected map, got {}", go(other))),
        };
        for (name, below) in fields {
            // The server's own, and read where they are used.
            if name == "managedFields" && path.is_metadata() {
                continue;
            }
            let here = Path::Field(path, name);
            match m.value(name) {
                Some(t) => self.walk(t, below, &here),
                None => {
                    // Upstream looks no further, and has no order.
                    return self.refuse(&here, "field not declared in schema".into());
                }
            }
        }
    }
}
