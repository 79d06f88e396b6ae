//! Checking values, with upstream's texts. What an update leaves unchanged is not checked again
//! (ratcheting).

use std::collections::HashSet;

use machinery::{Causes, causes::go_quote};
use serde_json::{Value, json};

use super::{JsonType, ListKind, ROOT, Structural, format, rules};

impl Structural {
    /// Adds what is wrong with an object; parts equal to those of `before` pass.
    pub fn validate(&self, object: &Value, before: Option<&Value>, causes: &mut Causes) {
        value(self, object, before, true, causes);
        rules::validate(self, object, before, causes);
    }
}

fn value(s: &Structural, v: &Value, before: Option<&Value>, root: bool, c: &mut Causes) {
    if before == Some(v) {
        return;
    }
    if v.is_null() && s.nullable {
        return;
    }
    if !type_fits(s, v, c) {
        return;
    }
    bounds(s, v, c);
    logic(s, v, c);
    match v {
        Value::Object(map) => {
            for name in &s.required {
                if map.get(name).is_none() {
                    c.at(name, |c| c.required(""));
                }
            }
            if s.embedded {
                embedded(v, c);
            }
            for (key, below_value) in map {
                if root && ROOT.contains(&key.as_str()) {
                    continue;
                }
                let old = before.and_then(|b| b.get(key));
                match (s.properties.get(key), s.additional.as_deref()) {
                    (Some(below), _) => {
                        c.at(key, |c| value(below, below_value, old, below.embedded, c))
                    }
                    (None, Some(below)) => {
                        c.key(key, |c| value(below, below_value, old, below.embedded, c));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(list) => items(s, list, before.and_then(Value::as_array), c),
        _ => {}
    }
}

fn type_name(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(s: &Structural, v: &Value, c: &mut Causes) -> bool {
    if s.int_or_string {
        if v.is_string() || v.is_i64() || v.is_u64() {
            return true;
        }
        let why = format!(
            "{} in body must be of type integer,string: {}",
            c.path(),
            go_quote(type_name(v))
        );
        c.type_invalid(&json!(type_name(v)), why);
        return false;
    }
    let Some(kind) = s.kind else { return true };
    let whole = v.as_f64().is_some_and(|n| n.fract() == 0.0);
    let fits = match kind {
        JsonType::Integer => v.is_i64() || v.is_u64() || whole,
        JsonType::Number => v.is_number(),
        kind => kind.name() == type_name(v),
    };
    if !fits {
        let found = type_name(v);
        let why = format!(
            "{} in body must be of type {}: {}",
            c.path(),
            kind.name(),
            go_quote(found)
        );
        c.type_invalid(&json!(found), why);
    }
    fits
}

fn embedded(v: &Value, c: &mut Causes) {
    for field in ["apiVersion", "kind"] {
        c.at(field, |c| match v.get(field) {
            None => c.required("must not be empty"),
            Some(Value::String(s)) if s.is_empty() => c.invalid(&json!(s), "must not be empty"),
            Some(Value::String(_)) => {}
            Some(other) => c.type_invalid(other, "must be a string"),
        });
    }
}

/// A value as a message about it shows it: objects and lists are left out by upstream's printer
/// only in CEL texts, so they are shown here.
fn bounds(s: &Structural, v: &Value, c: &mut Causes) {
    let b = &s.bounds;
    if let Some(allowed) = &b.one_of_values
        && !allowed.contains(v)
    {
        let shown: Vec<String> = allowed
            .iter()
            .map(|a| a.as_str().map_or_else(|| a.to_string(), str::to_string))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        c.not_supported(v, &shown);
    }
    let body = |c: &mut Causes, why: String| {
        let text = format!("{} in body {why}", c.path());
        c.invalid(v, text);
    };
    match v {
        Value::String(text) => {
            let length = text.chars().count();
            if let Some(max) = b.max_length.filter(|max| length > *max) {
                c.too_long(max);
            }
            if let Some(min) = b.min_length.filter(|min| length < *min) {
                body(c, format!("should be at least {min} chars long"));
            }
            if let Some(p) = b.pattern.as_ref().filter(|p| !p.is_match(text)) {
                body(c, format!("should match '{p}'"));
            }
            if !format::fits(&b.format, text) {
                body(
                    c,
                    format!("must be of type {}: {}", b.format, go_quote(text)),
                );
            }
        }
        Value::Number(_) => number(s, v, c),
        Value::Array(list) => {
            if let Some(max) = b.max_items.filter(|max| list.len() > *max) {
                c.too_many(list.len(), max);
            }
            if let Some(min) = b.min_items.filter(|min| list.len() < *min) {
                body(c, format!("should have at least {min} items"));
            }
        }
        Value::Object(map) => {
            if let Some(max) = b.max_properties.filter(|max| map.len() > *max) {
                c.too_many(map.len(), max);
            }
            if let Some(min) = b.min_properties.filter(|min| map.len() < *min) {
                body(c, format!("should have at least {min} properties"));
            }
        }
        _ => {}
    }
}

fn number(s: &Structural, v: &Value, c: &mut Causes) {
    let b = &s.bounds;
    let n = v.as_f64().unwrap_or(0.0);
    let mut body = |why: String| {
        let text = format!("{} in body {why}", c.path());
        c.invalid(v, text);
    };
    match (b.maximum, b.exclusive_maximum) {
        (Some(max), true) if n >= max => body(format!("should be less than {max}")),
        (Some(max), false) if n > max => body(format!("should be less than or equal to {max}")),
        _ => {}
    }
    match (b.minimum, b.exclusive_minimum) {
        (Some(min), true) if n <= min => body(format!("should be greater than {min}")),
        (Some(min), false) if n < min => body(format!("should be greater than or equal to {min}")),
        _ => {}
    }
    if let Some(of) = b.multiple_of.filter(|of| *of > 0.0)
        && ((n / of) - (n / of).round()).abs() > 1e-9
    {
        body(format!("should be a multiple of {of}"));
    }
    let outside = match b.format.as_str() {
        "int32" => v.as_i64().is_none_or(|n| i32::try_from(n).is_err()),
        "int64" => v.as_i64().is_none(),
        _ => false,
    };
    if outside && s.kind == Some(JsonType::Integer) {
        body(format!(
            "must be of type {}: {}",
            b.format,
            go_quote(&v.to_string())
        ));
    }
}

/// Whether a value passes, and what is wrong where not.
fn tried(s: &Structural, v: &Value, c: &Causes) -> Causes {
    let mut own = Causes::new();
    if c.path().is_empty() {
        value(s, v, None, false, &mut own);
    } else {
        own.at(c.path(), |own| value(s, v, None, false, own));
    }
    own
}

fn logic(s: &Structural, v: &Value, c: &mut Causes) {
    let invalid = |c: &mut Causes, why: &str| {
        let text = format!("{} must validate {why}", go_quote(c.path()));
        c.invalid(&json!(""), text);
    };
    if !s.all_of.is_empty() {
        let all: Vec<Causes> = s.all_of.iter().map(|one| tried(one, v, c)).collect();
        if all.iter().any(|t| !t.is_empty()) {
            invalid(c, "all the schemas (allOf)");
            all.iter()
                .flat_map(|t| t.as_slice())
                .for_each(|e| c.add(e.clone()));
        }
    }
    if !s.any_of.is_empty() {
        let all: Vec<Causes> = s.any_of.iter().map(|one| tried(one, v, c)).collect();
        if all.iter().all(|t| !t.is_empty()) {
            invalid(c, "at least one schema (anyOf)");
            all.iter()
                .flat_map(|t| t.as_slice())
                .for_each(|e| c.add(e.clone()));
        }
    }
    if !s.one_of.is_empty() {
        let all: Vec<Causes> = s.one_of.iter().map(|one| tried(one, v, c)).collect();
        match all.iter().filter(|t| t.is_empty()).count() {
            1 => {}
            0 => {
                invalid(c, "one and only one schema (oneOf). Found none valid");
                all.iter()
                    .flat_map(|t| t.as_slice())
                    .for_each(|e| c.add(e.clone()));
            }
            n => invalid(
                c,
                &format!("one and only one schema (oneOf). Found {n} valid alternatives"),
            ),
        }
    }
    if let Some(not) = &s.not
        && tried(not, v, c).is_empty()
    {
        let text = format!("{} must not validate the schema (not)", go_quote(c.path()));
        c.invalid(&json!(""), text);
    }
}

fn items(s: &Structural, list: &[Value], before: Option<&Vec<Value>>, c: &mut Causes) {
    if let Some(below) = s.items.as_deref() {
        for (i, item) in list.iter().enumerate() {
            let old = before.and_then(|b| correlated(&s.list, b, i, item));
            c.index(i, |c| value(below, item, old, below.embedded, c));
        }
    }
    let key_of = |item: &Value| match &s.list {
        ListKind::Map(keys) => {
            let pick = |k: &String| item.get(k).map(|v| (k.clone(), v.clone()));
            Value::Object(keys.iter().filter_map(pick).collect())
        }
        _ => item.clone(),
    };
    if s.list == ListKind::Atomic {
        return;
    }
    let mut seen = HashSet::new();
    for (i, item) in list.iter().enumerate() {
        let key = key_of(item);
        if !seen.insert(key.to_string()) {
            c.index(i, |c| c.duplicate(&key));
        }
    }
}

/// The old state of a list's item, where one can be told.
pub(super) fn correlated<'a>(
    list: &ListKind,
    before: &'a [Value],
    i: usize,
    item: &Value,
) -> Option<&'a Value> {
    match list {
        ListKind::Map(keys) => before
            .iter()
            .find(|b| keys.iter().all(|k| b.get(k) == item.get(k))),
        ListKind::Set => before.iter().find(|b| *b == item),
        ListKind::Atomic => before.get(i).filter(|b| *b == item),
    }
}
