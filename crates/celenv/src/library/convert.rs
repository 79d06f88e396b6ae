//! Conversions and sizes.

use std::sync::Arc;

use super::{Answer, Row, fail, none, time};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("size", "(string) int", size),
    ("size", "(bytes) int", size),
    ("size", "(list<A>) int", size),
    ("size", "(map<A,B>) int", size),
    ("size", "string.() int", size),
    ("size", "bytes.() int", size),
    ("size", "list<A>.() int", size),
    ("size", "map<A,B>.() int", size),
    ("type", "(A) type<A>", |a| {
        Ok(Value::Type(Arc::from(a[0].type_name())))
    }),
    ("dyn", "(A) dyn", |a| Ok(a[0].clone())),
    ("bool", "(bool) bool", to_bool),
    ("bool", "(string) bool", to_bool),
    ("int", "(int) int", to_int),
    ("int", "(uint) int", to_int),
    ("int", "(double) int", to_int),
    ("int", "(string) int", to_int),
    ("int", "(timestamp) int", to_int),
    ("int", "(duration) int", to_int),
    ("uint", "(uint) uint", to_uint),
    ("uint", "(int) uint", to_uint),
    ("uint", "(double) uint", to_uint),
    ("uint", "(string) uint", to_uint),
    ("double", "(double) double", to_double),
    ("double", "(int) double", to_double),
    ("double", "(uint) double", to_double),
    ("double", "(string) double", to_double),
    ("bytes", "(bytes) bytes", to_bytes),
    ("bytes", "(string) bytes", to_bytes),
    ("string", "(string) string", to_string),
    ("string", "(bool) string", to_string),
    ("string", "(int) string", to_string),
    ("string", "(uint) string", to_string),
    ("string", "(double) string", to_string),
    ("string", "(bytes) string", to_string),
    ("string", "(timestamp) string", to_string),
    ("string", "(duration) string", to_string),
    ("string", "(Ip) string", to_string),
    ("string", "(Cidr) string", to_string),
];

fn size(a: &[Value]) -> Answer {
    let n = match &a[0] {
        Value::String(s) => s.chars().count(),
        Value::Bytes(b) => b.len(),
        Value::List(l) => l.items.len(),
        Value::Map(m) => m.len(),
        _ => return none(),
    };
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

fn to_bool(a: &[Value]) -> Answer {
    match &a[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(s) => match s.as_ref() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => fail("type conversion error from 'string' to 'bool'"),
        },
        _ => none(),
    }
}

fn unconverted<T>(to: &str) -> Result<T, crate::program::EvalError> {
    fail(format!("type conversion error from 'string' to '{to}'"))
}

fn to_int(a: &[Value]) -> Answer {
    let i = match &a[0] {
        Value::Int(i) => *i,
        Value::Uint(u) => match i64::try_from(*u) {
            Ok(i) => i,
            Err(_) => return fail("integer overflow"),
        },
        Value::Double(d) if d.is_finite() && d.abs() < 9_223_372_036_854_775_807.0 => *d as i64,
        Value::Double(_) => return fail("integer overflow"),
        Value::String(s) => match s.parse() {
            Ok(i) => i,
            Err(_) => return unconverted("int"),
        },
        Value::Timestamp(t) => t.as_second(),
        Value::Duration(d) => *d,
        _ => return none(),
    };
    Ok(Value::Int(i))
}

fn to_uint(a: &[Value]) -> Answer {
    let u = match &a[0] {
        Value::Uint(u) => *u,
        Value::Int(i) => match u64::try_from(*i) {
            Ok(u) => u,
            Err(_) => return fail("unsigned integer overflow"),
        },
        Value::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_615.0 => *d as u64,
        Value::Double(_) => return fail("unsigned integer overflow"),
        Value::String(s) => match s.parse() {
            Ok(u) => u,
            Err(_) => return unconverted("uint"),
        },
        _ => return none(),
    };
    Ok(Value::Uint(u))
}

fn to_double(a: &[Value]) -> Answer {
    let d = match &a[0] {
        Value::Double(d) => *d,
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        Value::String(s) => match s.parse::<f64>() {
            // What is too large is no number.
            Ok(d) if d.is_finite() || !s.contains(|c: char| c.is_ascii_digit()) => d,
            _ => return unconverted("double"),
        },
        _ => return none(),
    };
    Ok(Value::Double(d))
}

fn to_bytes(a: &[Value]) -> Answer {
    match &a[0] {
        Value::Bytes(_) => Ok(a[0].clone()),
        Value::String(s) => Ok(Value::Bytes(Arc::from(s.as_bytes()))),
        _ => none(),
    }
}

/// A double as Go's `%g` and `strconv.FormatFloat(…, 'g', -1, 64)` write it.
pub(super) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_string();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_string();
    }
    let magnitude = d.abs();
    if d != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{d:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{d}")
}

fn to_string(a: &[Value]) -> Answer {
    let s = match &a[0] {
        Value::String(_) => return Ok(a[0].clone()),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => double_text(*d),
        Value::Bytes(b) => match std::str::from_utf8(b) {
            Ok(s) => s.to_string(),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Timestamp(t) => t.to_string(),
        Value::Duration(d) => time::duration_text(*d),
        Value::Foreign(f) => match f.text() {
            Some(s) => s,
            None => return none(),
        },
        _ => return none(),
    };
    Ok(Value::from(s))
}
