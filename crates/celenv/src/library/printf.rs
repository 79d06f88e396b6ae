//! `format` of strings. Upstream: ext/formatting.go.

use super::{Answer, Row, convert, fail, list, text};
use crate::program::EvalError;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[("format", "string.(list<dyn>) string", format)];

fn format(a: &[Value]) -> Answer {
    let args = &list(a, 1)?.items;
    let mut out = String::new();
    let mut next = 0;
    let mut chars = text(a, 0)?.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            precision = digits.parse::<usize>().ok().map(|p| p.min(100));
        }
        let Some(verb) = chars.next() else {
            return fail("could not parse formatting clause: unexpected end of string");
        };
        let Some(v) = args.get(next) else {
            return fail(format!("index {next} out of range"));
        };
        next += 1;
        out.push_str(&clause(verb, precision, v)?);
    }
    Ok(out.into())
}

fn clause(verb: char, precision: Option<usize>, v: &Value) -> Result<String, EvalError> {
    let whole = match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    let digits = precision.unwrap_or(6);
    match (verb, v) {
        ('s', v) => Ok(plain(v)),
        ('d', _) if whole.is_some() => Ok(whole.map(|w| w.to_string()).unwrap_or_default()),
        ('f', Value::Double(d)) => Ok(format!("{d:.digits$}")),
        ('f', _) if whole.is_some() => Ok(format!("{:.digits$}", whole.unwrap_or_default() as f64)),
        ('e', Value::Double(d)) => Ok(scientific(*d, digits)),
        ('e', _) if whole.is_some() => Ok(scientific(whole.unwrap_or_default() as f64, digits)),
        ('b', Value::Bool(b)) => Ok(u8::from(*b).to_string()),
        ('b' | 'x' | 'X' | 'o', _) if let Some(w) = whole => {
            let sign = if w < 0 { "-" } else { "" };
            let w = w.unsigned_abs();
            Ok(match verb {
                'b' => format!("{sign}{w:b}"),
                'x' => format!("{sign}{w:x}"),
                'X' => format!("{sign}{w:X}"),
                _ => format!("{sign}{w:o}"),
            })
        }
        ('x' | 'X', Value::String(_) | Value::Bytes(_)) => {
            let bytes = match v {
                Value::String(s) => s.as_bytes(),
                Value::Bytes(b) => b,
                _ => &[],
            };
            let hex = bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            Ok(if verb == 'X' { hex.to_uppercase() } else { hex })
        }
        ('d', v) => refused("decimal clause can only be used on integers", v),
        ('f' | 'e', v) => refused(
            "fixed-point and scientific clauses can only be used on numbers",
            v,
        ),
        ('b', v) => refused("only integers and bools can be formatted as binary", v),
        ('x' | 'X', v) => refused(
            "only integers, byte buffers, and strings can be formatted as hex",
            v,
        ),
        ('o', v) => refused("octal clause can only be used on integers", v),
        (verb, _) => fail(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
        )),
    }
}

fn refused(why: &str, v: &Value) -> Result<String, EvalError> {
    fail(format!(
        "error during formatting: {why}, was given {}",
        v.type_name()
    ))
}

fn scientific(d: f64, digits: usize) -> String {
    let text = format!("{d:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(e) => ('-', e),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

fn plain(v: &Value) -> String {
    match v {
        Value::Double(d) => convert::double_text(*d),
        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Value::Timestamp(t) => t.to_string(),
        Value::Duration(d) => super::time::duration_text(*d),
        Value::Type(t) => t.to_string(),
        Value::List(l) => {
            let items: Vec<String> = l.items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(m) => {
            let entries: Vec<String> = m
                .entries()
                .map(|(k, v)| format!("{}: {}", plain(&k), plain(v)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        v => super::shown(v),
    }
}
