//! From JSON to values and back. With a schema the types it declares come out; without one whole numbers are
//! ints, as in upstream's unstructured objects. Upstream: k8s.io/apiserver/pkg/cel/common.

use std::sync::Arc;

use base64::Engine;
use serde_json::Value as Json;

use crate::library::Foreign;
use crate::types::Type;
use crate::value::{List, ListKind, Map, Value};

/// What is known about a part of an object.
#[derive(Clone, Debug, Default)]
pub enum Schema {
    /// Nothing: what is there says its type.
    #[default]
    Unknown,
    Bool,
    Int,
    Double,
    String,
    /// `format: date-time` and `date`.
    Timestamp,
    /// `format: duration`.
    Duration,
    /// `format: byte`.
    Bytes,
    List(Arc<Schema>, ListKind),
    Map(Arc<Schema>),
    Object(Arc<ObjectSchema>),
}

/// The fields of an object under their escaped names.
#[derive(Debug)]
pub struct ObjectSchema {
    /// The type's name in messages.
    pub name: String,
    /// Escaped name, name in JSON, schema.
    pub fields: Vec<(String, String, Schema)>,
}

/// Below this a float without a fraction is an integer.
const WHOLE_MAX: f64 = 9e18;

const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A property's name as expressions write it. Upstream: `cel.Escape`.
pub fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = tail;
            continue;
        }
        match c {
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The property that an escaped name stands for; `None` for names that are as they are. Upstream: `cel.Unescape`.
pub fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    let word = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    if let Some(word) = word.filter(|w| RESERVED.contains(w)) {
        return Some(word.to_string());
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        out.push_str(&rest[..at]);
        let parts = [
            ("__underscores__", "__"),
            ("__dot__", "."),
            ("__dash__", "-"),
            ("__slash__", "/"),
        ];
        let found = parts.iter().find(|(e, _)| rest[at..].starts_with(e));
        let (escaped, plain) = found?;
        out.push_str(plain);
        rest = &rest[at + escaped.len()..];
    }
    out.push_str(rest);
    Some(out)
}

/// Whether a property can be written in an expression at all: an identifier once it is escaped.
pub fn can_escape(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'))
}

impl Schema {
    /// The type of expressions of this part.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Unknown => Type::Dyn,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Timestamp => Type::Timestamp,
            Self::Duration => Type::Duration,
            Self::Bytes => Type::Bytes,
            Self::List(s, _) => Type::list(s.type_of()),
            Self::Map(s) => Type::map(Type::String, s.type_of()),
            Self::Object(o) => {
                let fields = o.fields.iter().map(|(n, _, s)| (n.as_str(), s.type_of()));
                Type::object(&o.name, fields.collect())
            }
        }
    }

    /// The value of a JSON text that meets the schema; what does not meet it comes out as it is.
    pub fn value(&self, json: &Json) -> Value {
        match (self, json) {
            (_, Json::Null) => Value::Null,
            (Self::Double, Json::Number(n)) => n.as_f64().map_or(Value::Null, Value::Double),
            // Upstream: an error wherever it is looked at; here a whole number is one however it was written.
            (Self::Int, Json::Number(n)) if n.is_f64() => match n.as_f64() {
                #[allow(clippy::cast_possible_truncation)] // It is whole and fits.
                Some(f) if f.fract() == 0.0 && f.abs() < WHOLE_MAX => Value::Int(f as i64),
                _ => untyped(json),
            },
            (Self::Timestamp, Json::String(s)) => {
                timestamp(s).map_or_else(unread, Value::Timestamp)
            }
            (Self::Duration, Json::String(s)) => crate::library::time::format_duration(s)
                .map_or_else(|| Value::text(s), Value::Duration),
            (Self::Bytes, Json::String(s)) => {
                match base64::engine::general_purpose::STANDARD.decode(s) {
                    Ok(b) => Value::Bytes(Arc::from(b)),
                    Err(_) => Value::text(s),
                }
            }
            (Self::List(s, kind), Json::Array(items)) => Value::List(Arc::new(List {
                items: items.iter().map(|v| s.value(v)).collect(),
                kind: kind.clone(),
            })),
            (Self::Map(s), Json::Object(map)) => Value::map(Map {
                fields: map
                    .iter()
                    .map(|(k, v)| (Arc::from(k.as_str()), s.value(v)))
                    .collect(),
                ..Map::default()
            }),
            (Self::Object(o), Json::Object(map)) => o.value(map),
            (Self::Unknown, _)
            | (Self::Bool, Json::Bool(_))
            | (Self::Int, Json::Number(_))
            | (Self::String, Json::String(_)) => untyped(json),
            _ => self.invalid(json),
        }
    }

    /// What is read of a value of another type. Upstream: `common.UnstructuredToVal`.
    fn invalid(&self, json: &Json) -> Value {
        let wanted = match self {
            Self::List(..) => "an array for the provided schema with type=array",
            Self::Map(_) | Self::Object(_) => "a map for the provided schema with type=object",
            Self::Int => "int",
            Self::Double => "float",
            Self::Bool => "bool",
            _ => "string",
        };
        let found = match (self, json) {
            (Self::List(..) | Self::Map(_) | Self::Object(_), _) => String::new(),
            (_, json) => format!(", got {}", go_type(json)),
        };
        unread(format!("invalid data, expected {wanted}{found}"))
    }
}

/// Go's type of a decoded JSON value.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(n) if !n.is_i64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

impl ObjectSchema {
    fn value(&self, map: &serde_json::Map<String, Json>) -> Value {
        let mut fields = std::collections::BTreeMap::new();
        for (escaped, name, schema) in &self.fields {
            // A null stands for nothing unless the schema is nullable, and then has() says no as well.
            if let Some(v) = map.get(name).filter(|v| !v.is_null()) {
                fields.insert(Arc::from(escaped.as_str()), schema.value(v));
            }
        }
        Value::map(Map {
            fields,
            type_name: Some(Arc::from(self.name.as_str())),
            ..Map::default()
        })
    }
}

/// The value of JSON of which nothing is known.
pub fn untyped(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => n.as_f64().map_or(Value::Null, Value::Double),
        },
        Json::String(s) => Value::text(s),
        Json::Array(items) => Value::list(items.iter().map(untyped).collect()),
        Json::Object(map) => Value::map(Map {
            fields: map
                .iter()
                .map(|(k, v)| (Arc::from(k.as_str()), untyped(v)))
                .collect(),
            ..Map::default()
        }),
    }
}

/// A date, or a date and a time in capitals with a zone; the error is Go's for the last layout that upstream tries.
/// Formats of values are laxer.
fn timestamp(s: &str) -> Result<jiff::Timestamp, String> {
    const LAST: &str = "2006-01-02T15:04:05";
    let date = || {
        let date: jiff::civil::Date = s.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let failed = |why: String| {
        Err(format!(
            "Invalid date-time formatted string {s}: parsing time {s:?}{why}"
        ))
    };
    let Some((_, time)) = s
        .split_at_checked(DATE)
        .filter(|(_, time)| !time.is_empty())
    else {
        return date().map_or_else(
            || failed(format!(" as {LAST:?}: cannot parse {s:?} as \"2006\"")),
            Ok,
        );
    };
    let Some(clock) = time.strip_prefix('T') else {
        return failed(format!(" as {LAST:?}: cannot parse {time:?} as \"T\""));
    };
    let clock = clock.get(CLOCK..).unwrap_or_default();
    let zone = clock.strip_prefix(['.', ',']).map_or(clock, |f| {
        f.trim_start_matches(|c: char| c.is_ascii_digit())
    });
    match s.parse() {
        Ok(t) if zone == "Z" || is_offset(zone) => Ok(t),
        _ => failed(format!(": extra text: {zone:?}")),
    }
}

/// Bytes of a date, and of a time without a fraction.
const DATE: usize = 10;
const CLOCK: usize = 8;

/// Whether a text is a zone's offset that Go takes.
fn is_offset(zone: &str) -> bool {
    let digits = zone
        .strip_prefix(['+', '-'])
        .and_then(|z| z.split_once(':'));
    let of = |text: &str, max: u8| text.len() == 2 && text.parse().is_ok_and(|n: u8| n <= max);
    digits.is_some_and(|(hours, minutes)| of(hours, 24) && of(minutes, 60))
}

/// What is no value of its type: an error wherever it is looked at.
fn unread(why: String) -> Value {
    Value::Foreign(Arc::new(Foreign::Invalid(why)))
}

/// JSON of a value, for patches and audit annotations. Types without JSON give an error that names them.
pub fn to_json(v: &Value) -> Result<Json, String> {
    Ok(match v {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Uint(u) => Json::from(*u),
        Value::Double(d) => serde_json::Number::from_f64(*d)
            .map(Json::Number)
            .ok_or_else(|| "json: unsupported value".to_string())?,
        Value::String(s) => Json::from(s.as_ref()),
        Value::Bytes(b) => Json::from(base64::engine::general_purpose::STANDARD.encode(b)),
        Value::Timestamp(t) => Json::from(t.to_string()),
        Value::Duration(d) => Json::from(crate::library::time::duration_text(*d)),
        Value::List(l) => Json::Array(l.items.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(m) => {
            if let Some((k, _)) = m.others.first_key_value() {
                return Err(format!("map key {k:?} is not a string"));
            }
            let one = |(k, v): (&Arc<str>, &Value)| Ok::<_, String>((k.to_string(), to_json(v)?));
            Json::Object(m.fields.iter().map(one).collect::<Result<_, _>>()?)
        }
        Value::Optional(Some(v)) => to_json(v)?,
        Value::Foreign(f) => match f.text() {
            Some(text) => Json::from(text),
            None => return Err(format!("{} has no JSON", f.type_name())),
        },
        Value::Optional(None) | Value::Type(_) => {
            return Err(format!("{} has no JSON", v.type_name()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_go_reads() {
        for text in [
            "2024-02-29",
            "2024-02-29T10:00:00Z",
            "2024-02-29T10:00:00.5+01:00",
        ] {
            assert!(timestamp(text).is_ok(), "{text}");
        }
        for (text, why) in [
            (
                "2024-02-29t10:00:00.5+01:00",
                " as \"2006-01-02T15:04:05\": cannot parse \"t10:00:00.5+01:00\" as \"T\"",
            ),
            ("2024-02-29T10:00:00z", ": extra text: \"z\""),
            ("2024-02-29T10:00:00.5+25:00", ": extra text: \"+25:00\""),
            ("2024-02-29T10:00:00x5Z", ": extra text: \"x5Z\""),
        ] {
            let told = timestamp(text).expect_err(text);
            let wanted =
                format!("Invalid date-time formatted string {text}: parsing time {text:?}{why}");
            assert_eq!(told, wanted);
        }
    }
}
