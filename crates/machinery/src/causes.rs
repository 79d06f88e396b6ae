//! Field errors with their paths. Upstream: k8s.io/apimachinery/pkg/util/validation/field.
//! The path is a stack inside `Causes`, so a validator never carries strings around.

use serde_json::{Number, Value};

/// Upstream's `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    InternalError,
    TypeInvalid,
}

/// One field error.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub kind: CauseKind,
    /// Path as upstream writes it: `spec.containers[0].name`, `data[key]`.
    pub field: String,
    /// The offending value already in Go's `%v`/`%q` shape; `None` for kinds that show none.
    pub value: Option<String>,
    pub detail: String,
}

/// A list of field errors under a current path.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    path: String,
    list: Vec<Cause>,
    warnings: Vec<String>,
}

// === CauseKind ===

impl CauseKind {
    /// The machine-readable reason in `Status.details.causes`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::InternalError => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::InternalError => "Internal error",
        }
    }
}

// === Cause ===

impl Cause {
    /// The text without the field: `Invalid value: -1: must be >= 0`.
    pub fn detail_text(&self) -> String {
        let mut text = self.kind.label().to_string();
        if let Some(v) = &self.value {
            text.push_str(": ");
            text.push_str(v);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// The whole text: `spec.replicas: Invalid value: -1: must be >= 0`.
    pub fn text(&self) -> String {
        format!("{}: {}", self.field, self.detail_text())
    }
}

// === Causes ===

impl Causes {
    /// An empty list at the root path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `f` with `name` appended to the path.
    pub fn at<R>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.path.len();
        if len > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let r = f(self);
        self.path.truncate(len);
        r
    }

    /// Runs `f` with `[i]` appended to the path.
    pub fn index<R>(&mut self, i: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        self.key(&i.to_string(), f)
    }

    /// Runs `f` with `[key]` appended to the path.
    pub fn key<R>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.path.len();
        self.path.push('[');
        self.path.push_str(key);
        self.path.push(']');
        let r = f(self);
        self.path.truncate(len);
        r
    }

    /// Runs `f` under the empty path, which upstream prints as `[]`.
    pub fn at_root<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        let path = std::mem::replace(&mut self.path, "[]".into());
        let r = f(self);
        self.path = path;
        r
    }

    fn push(&mut self, kind: CauseKind, value: Option<String>, detail: impl Into<String>) {
        let field = if self.path.is_empty() {
            "<nil>".into()
        } else {
            self.path.clone()
        };
        self.list.push(Cause {
            kind,
            field,
            value,
            detail: detail.into(),
        });
    }

    /// `Invalid value: <value>: <detail>`.
    pub fn invalid(&mut self, value: &Value, detail: impl Into<String>) {
        self.push(CauseKind::Invalid, Some(go_text(value)), detail);
    }

    /// `Invalid value` of a wrong type.
    pub fn type_invalid(&mut self, value: &Value, detail: impl Into<String>) {
        self.push(CauseKind::TypeInvalid, Some(go_text(value)), detail);
    }

    /// `Required value[: <detail>]`.
    pub fn required(&mut self, detail: impl Into<String>) {
        self.push(CauseKind::Required, None, detail);
    }

    /// `Forbidden: <detail>`.
    pub fn forbidden(&mut self, detail: impl Into<String>) {
        self.push(CauseKind::Forbidden, None, detail);
    }

    /// `Duplicate value: <value>`.
    pub fn duplicate(&mut self, value: &Value) {
        self.push(CauseKind::Duplicate, Some(go_text(value)), "");
    }

    /// `Not found: <value>`.
    pub fn not_found(&mut self, value: &Value) {
        self.push(CauseKind::NotFound, Some(go_text(value)), "");
    }

    /// `Unsupported value: "x": supported values: "a", "b"`, sorted.
    pub fn not_supported(&mut self, value: &Value, supported: &[&str]) {
        let mut sorted: Vec<&str> = supported.to_vec();
        sorted.sort_unstable();
        self.not_supported_in_order(value, &sorted);
    }

    /// The same where upstream does not sort the supported values.
    pub fn not_supported_in_order(&mut self, value: &Value, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let detail = if list.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", list.join(", "))
        };
        self.push(CauseKind::NotSupported, Some(go_text(value)), detail);
    }

    /// An error at the current path whose value is left out: `Invalid value: <detail>`.
    pub fn without_value(&mut self, kind: CauseKind, detail: impl Into<String>) {
        self.push(kind, None, detail);
    }

    /// An empty list under the same path.
    pub fn aside(&self) -> Self {
        Self {
            path: self.path.clone(),
            ..Self::default()
        }
    }

    /// `Internal error: <detail>`.
    pub fn internal(&mut self, detail: impl Into<String>) {
        self.push(CauseKind::InternalError, None, detail);
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, max: usize) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        self.push(
            CauseKind::TooLong,
            None,
            format!("may not be more than {max} {unit}"),
        );
    }

    /// `Too many: <actual>: must have at most <max> items`.
    pub fn too_many(&mut self, actual: usize, max: usize) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(
            CauseKind::TooMany,
            Some(actual.to_string()),
            format!("must have at most {max} {unit}"),
        );
    }

    /// An error at the current path whose value is already in Go's shape.
    pub fn shown(&mut self, kind: CauseKind, value: impl Into<String>, detail: impl Into<String>) {
        self.push(kind, Some(value.into()), detail);
    }

    /// Checks a path after a domain, `acme.io/foo`. Upstream: validation.IsDomainPrefixedPath.
    pub fn domain_prefixed_path(&mut self, path: &str) {
        if path.is_empty() {
            return self.required("");
        }
        let (host, rest) = match path.split_once('/') {
            Some((host, rest)) if !host.is_empty() && !rest.is_empty() => (host, rest),
            _ => {
                let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                return self.shown(CauseKind::Invalid, go_quote(path), why);
            }
        };
        for why in api::names::dns1123_subdomain(host) {
            self.shown(CauseKind::Invalid, go_quote(host), why);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
        if !rest.bytes().all(allowed) {
            let expression = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
            let why = format!("Invalid path (regex used for validation is '{expression}')");
            self.shown(CauseKind::Invalid, go_quote(rest), why);
        }
    }

    /// Adds an error built elsewhere.
    pub fn add(&mut self, cause: Cause) {
        self.list.push(cause);
    }

    /// Something the client is told of though the object passes.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// What the client is told of though the object passes.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many there are: what came later is `as_slice()[n..]`.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Sorts those after the first `n` by their texts, as upstream does where it finds them in maps.
    pub fn sort_from(&mut self, n: usize) {
        self.list[n..].sort_by_cached_key(Cause::text);
    }

    /// The current path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether nothing was found wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What was found wrong, in order.
    pub fn as_slice(&self) -> &[Cause] {
        &self.list
    }
}

/// A value as upstream prints it in field errors: strings quoted, numbers bare, objects as JSON.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::String(s) => go_quote(s),
        Value::Null => "null".into(),
        Value::Number(n) if is_float(n) => go_float(n.as_f64().unwrap_or(0.0)),
        Value::Array(_) | Value::Object(_) => go_json(value),
        other => other.to_string(),
    }
}

pub use api::go::quote as go_quote;

/// Whether Go decodes a number to a float: everything but integers of 64 bits with a sign.
pub fn is_float(n: &Number) -> bool {
    !n.is_i64()
}

/// Go's `%T` of a decoded JSON value.
pub fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if is_float(n) => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%v` of a float.
pub fn go_float(n: f64) -> String {
    float(n, (1e-4, 1e6), 2)
}

/// Digits of `n`, with an exponent outside of a range of magnitudes.
fn float(n: f64, (low, high): (f64, f64), digits: usize) -> String {
    let magnitude = n.abs();
    if magnitude == 0.0 || (low..high).contains(&magnitude) {
        return n.to_string();
    }
    let text = format!("{n:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(e) => ('-', e),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>digits$}")
}

/// A value as Go's JSON package writes it: nothing that HTML gives a meaning to.
pub fn go_json(value: &Value) -> String {
    match value {
        Value::Number(n) if n.is_f64() => float(n.as_f64().unwrap_or(0.0), (1e-6, 1e21), 1),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(go_json).collect();
            format!("[{}]", all.join(","))
        }
        Value::Object(map) => {
            let one = |(k, v): (&String, &Value)| format!("{}:{}", json_string(k), go_json(v));
            let all: Vec<String> = map.iter().map(one).collect();
            format!("{{{}}}", all.join(","))
        }
        Value::String(s) => json_string(s),
        other => other.to_string(),
    }
}

/// A string as Go's JSON package writes it.
pub(crate) fn json_string(s: &str) -> String {
    without_html(Value::String(s.into()).to_string())
}

/// A text of JSON with escapes for what HTML gives a meaning to.
pub(crate) fn without_html(text: String) -> String {
    let meaning = |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if !text.contains(meaning) {
        return text;
    }
    let each = |c: char| match meaning(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    text.chars().map(each).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        for (value, expected) in [
            (json!(5), "5"),
            (json!(1.5), "1.5"),
            (json!(1e30), "1e+30"),
            (json!(0.00001), "1e-05"),
            (json!(100_000.5), "100000.5"),
            (json!("a<b"), "\"a<b\""),
            (
                json!({"a": "x > 1 && y", "b": [1e-7, null]}),
                "{\"a\":\"x \\u003e 1 \\u0026\\u0026 y\",\"b\":[1e-7,null]}",
            ),
        ] {
            assert_eq!(go_text(&value), expected);
        }
    }
}
