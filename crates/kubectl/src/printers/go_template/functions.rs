//! The functions of templates: text/template's, and kubectl's own.

use std::cmp::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Number, Value};

const KNOWN: &[&str] = &[
    "and",
    "base64decode",
    "eq",
    "exists",
    "ge",
    "gt",
    "html",
    "index",
    "js",
    "le",
    "len",
    "lt",
    "ne",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "slice",
    "urlquery",
];

/// Whether a function exists.
pub fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Go's truth: what is not empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(l) => !l.is_empty(),
        Value::Object(m) => !m.is_empty(),
    }
}

/// A value as `%v` prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(s) => s.clone(),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(text).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(map) => {
            let mut all: Vec<(&String, &Value)> = map.iter().collect();
            all.sort_by_key(|(k, _)| *k);
            let all: Vec<String> = all
                .iter()
                .map(|(k, v)| format!("{k}:{}", text(v)))
                .collect();
            format!("map[{}]", all.join(" "))
        }
    }
}

/// Go's `%v`: of what is whole in the template, and `%g` with the shortest digits of a float64, as all numbers
/// of objects are.
fn number(n: &Number) -> String {
    if !n.is_f64() {
        return n.to_string();
    }
    let f = n.as_f64().unwrap_or_default();
    let shown = format!("{f:e}");
    let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let size: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&size) {
        return f.to_string();
    }
    let sign = if size < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", size.unsigned_abs())
}

fn wrong(name: &str, want: &str, got: usize) -> String {
    format!("wrong number of args for {name}: want {want} got {got}")
}

/// Calls a function.
pub fn call(name: &str, given: &[Value]) -> Result<Value, String> {
    let boolean = |b: Result<bool, String>| b.map(Value::Bool);
    match (name, given) {
        ("and" | "or" | "not" | "len" | "index" | "slice" | "eq" | "exists", []) => {
            Err(wrong(name, "at least 1", 0))
        }
        ("and", all) => Ok(all
            .iter()
            .find(|v| !truth(v))
            .or(all.last())
            .cloned()
            .unwrap_or_default()),
        ("or", all) => Ok(all
            .iter()
            .find(|v| truth(v))
            .or(all.last())
            .cloned()
            .unwrap_or_default()),
        ("not", [one]) => Ok(Value::Bool(!truth(one))),
        ("len", [one]) => length(one).map(Value::from),
        ("index", [of, path @ ..]) => path.iter().try_fold(of.clone(), |v, key| index(&v, key)),
        ("slice", [of, bounds @ ..]) => slice(of, bounds),
        ("eq", [first, more @ ..]) if !more.is_empty() => {
            let all: Result<Vec<bool>, String> = more.iter().map(|m| same(first, m)).collect();
            boolean(all.map(|all| all.contains(&true)))
        }
        ("ne", [a, b]) => boolean(same(a, b).map(|s| !s)),
        ("lt", [a, b]) => boolean(order(a, b).map(Ordering::is_lt)),
        ("le", [a, b]) => boolean(order(a, b).map(Ordering::is_le)),
        ("gt", [a, b]) => boolean(order(a, b).map(Ordering::is_gt)),
        ("ge", [a, b]) => boolean(order(a, b).map(Ordering::is_ge)),
        ("print", all) => Ok(Value::from(print(all))),
        ("println", all) => {
            let all: Vec<String> = all.iter().map(text).collect();
            Ok(Value::from(format!("{}\n", all.join(" "))))
        }
        ("printf", [Value::String(format), all @ ..]) => Ok(Value::from(printf(format, all))),
        ("html", all) => Ok(Value::from(html(&print(all)))),
        ("js", all) => Ok(Value::from(js(&print(all)))),
        ("urlquery", all) => Ok(Value::from(urlquery(&print(all)))),
        ("exists", [of, path @ ..]) => {
            let found = path.iter().try_fold(of.clone(), |v, key| {
                index(&v, key).ok().filter(|v| !v.is_null())
            });
            Ok(Value::Bool(found.is_some()))
        }
        ("base64decode", [Value::String(s)]) => {
            let data = BASE64_STANDARD
                .decode(s)
                .map_err(|e| format!("base64 decode failed: {e}"))?;
            Ok(Value::from(String::from_utf8_lossy(&data).into_owned()))
        }
        (name, all) => Err(wrong(name, "other", all.len())),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(s) => Ok(s.len()),
        Value::Array(l) => Ok(l.len()),
        Value::Object(m) => Ok(m.len()),
        other => Err(format!("len of type {}", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(n) if !n.is_f64() => "int",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn whole(value: &Value) -> Result<usize, String> {
    let n = value.as_f64().filter(|n| n.fract() == 0.0);
    let n = n.ok_or_else(|| format!("cannot index slice/array with type {}", kind(value)))?;
    if n < 0.0 {
        return Err(format!("index out of range: {n}"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Whole and not negative.
    Ok(n as usize)
}

fn index(of: &Value, key: &Value) -> Result<Value, String> {
    match (of, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or_default()),
        (Value::Array(list), key) => {
            let at = whole(key)?;
            let found = list.get(at).cloned();
            found.ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::String(s), key) => {
            let at = whole(key)?;
            let byte = s.as_bytes().get(at).copied();
            byte.map(Value::from)
                .ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Null, _) => Err("index of untyped nil".into()),
        (of, _) => Err(format!("can't index item of type {}", kind(of))),
    }
}

fn slice(of: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bounds: Vec<usize> = bounds.iter().map(whole).collect::<Result<_, _>>()?;
    let total = length(of)?;
    let from = bounds.first().copied().unwrap_or(0);
    let to = bounds.get(1).copied().unwrap_or(total);
    if to > total || from > to {
        return Err(format!("index out of range: {}", from.max(to)));
    }
    match of {
        Value::String(s) => {
            let part = s.get(from..to).ok_or("slice within a letter")?;
            Ok(Value::from(part))
        }
        Value::Array(list) => Ok(Value::Array(list[from..to].to_vec())),
        other => Err(format!("can't slice item of type {}", kind(other))),
    }
}

/// Go compares only what is of one type; a whole number is not a float.
fn same(a: &Value, b: &Value) -> Result<bool, String> {
    let alike = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.is_f64() == b.is_f64(),
        (Value::Null, _) | (_, Value::Null) => true,
        (a, b) => kind(a) == kind(b),
    };
    match alike {
        true => Ok(a == b),
        false => Err("incompatible types for comparison".into()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
            let order = a.as_f64().partial_cmp(&b.as_f64());
            order.ok_or_else(|| "incompatible types for comparison".into())
        }
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".into()),
    }
}

/// Go's `Sprint`: a space between two where neither is a text.
fn print(all: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in all.iter().enumerate() {
        let texts = value.is_string() || (i > 0 && all[i - 1].is_string());
        if i > 0 && !texts {
            out.push(' ');
        }
        out.push_str(&text(value));
    }
    out
}

/// Go's `Sprintf` for the verbs that values of JSON have.
fn printf(format: &str, all: &[Value]) -> String {
    let mut out = String::new();
    let (mut letters, mut given) = (format.chars().peekable(), all.iter());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut flags = String::new();
        while let Some(c) = letters.next_if(|c| "+-# 0123456789.".contains(*c)) {
            flags.push(c);
        }
        match letters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match given.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&padded(&flags, &formatted(verb, &flags, value))),
            },
        }
    }
    out
}

fn formatted(verb: char, flags: &str, value: &Value) -> String {
    let float = value.as_f64();
    let precision = flags
        .split_once('.')
        .and_then(|(_, p)| p.parse::<usize>().ok());
    match (verb, value) {
        ('v', _) => text(value),
        ('s', Value::String(s)) => s.clone(),
        ('q', Value::String(s)) => format!("{s:?}"),
        ('d', Value::Number(n)) if !n.is_f64() => n.to_string(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('T', _) => kind(value).to_string(),
        ('f', Value::Number(_)) => {
            format!("{:.*}", precision.unwrap_or(6), float.unwrap_or_default())
        }
        ('g', Value::Number(n)) => number(n),
        ('s' | 'q', Value::Array(_) | Value::Object(_)) => text(value),
        (verb, value) => format!("%!{verb}({}={})", kind(value), text(value)),
    }
}

/// Fills a text up to the width that the flags ask for.
fn padded(flags: &str, text: &str) -> String {
    let left = flags.contains('-');
    let width = flags.split('.').next().unwrap_or("");
    let width = width.trim_start_matches(['-', '+', '#', ' ']);
    let zero = width.starts_with('0') && !left;
    let width: usize = width.parse().unwrap_or(0).min(1_000);
    let missing = width.saturating_sub(text.chars().count());
    match (left, zero) {
        (true, _) => format!("{text}{}", " ".repeat(missing)),
        (_, true) => format!("{}{text}", "0".repeat(missing)),
        _ => format!("{}{text}", " ".repeat(missing)),
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
