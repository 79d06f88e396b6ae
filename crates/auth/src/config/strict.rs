//! What a configuration file may hold: every field with its type. Upstream: the strict JSON decoder.

use serde_json::Value;

/// A field's type.
pub(super) enum Shape {
    Text,
    Bool,
    List(&'static Shape),
    /// Go's name of the type, and its fields.
    Object(&'static str, &'static [(&'static str, Shape)]),
}

/// Whether a document has this shape. The error is upstream's: the first wrong type, or all unknown fields.
pub(super) fn check(document: &Value, shape: &Shape) -> Result<(), String> {
    let mut walk = Walk {
        unknown: Vec::new(),
    };
    walk.value(document, shape, "", "", "")?;
    if walk.unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "strict decoding error: {}",
        walk.unknown.join(", ")
    ))
}

struct Walk {
    unknown: Vec<String>,
}

impl Walk {
    /// `path` has indices, `dotted` has none, as Go's two errors want them; `within` is the Go type around.
    fn value(
        &mut self,
        value: &Value,
        shape: &Shape,
        path: &str,
        dotted: &str,
        within: &str,
    ) -> Result<(), String> {
        let wrong = |wanted: &str| {
            let got = go_kind(value);
            let at = format!("{within}.{dotted}");
            Err(format!(
                "json: cannot unmarshal {got} into Go struct field {at} of type {wanted}"
            ))
        };
        match (shape, value) {
            (_, Value::Null) | (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => {
                Ok(())
            }
            (Shape::Text, _) => wrong("string"),
            (Shape::Bool, _) => wrong("bool"),
            (Shape::List(of), Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(item, of, &format!("{path}[{i}]"), dotted, within)?;
                }
                Ok(())
            }
            (Shape::List(of), _) => wrong(&format!("[]{}", of.name())),
            (Shape::Object(name, fields), Value::Object(map)) => {
                for (key, item) in map {
                    let under = |p: &str| match p {
                        "" => key.clone(),
                        p => format!("{p}.{key}"),
                    };
                    match fields.iter().find(|(n, _)| n == key) {
                        Some((_, of)) => {
                            self.value(item, of, &under(path), &under(dotted), name)?;
                        }
                        None if path.is_empty() && ["kind", "apiVersion"].contains(&&**key) => {}
                        None => self
                            .unknown
                            .push(format!("unknown field \"{}\"", under(path))),
                    }
                }
                Ok(())
            }
            (Shape::Object(name, _), _) => wrong(&format!("v1.{name}")),
        }
    }
}

impl Shape {
    fn name(&self) -> String {
        match self {
            Self::Text => "string".into(),
            Self::Bool => "bool".into(),
            Self::List(of) => format!("[]{}", of.name()),
            Self::Object(name, _) => format!("v1.{name}"),
        }
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
