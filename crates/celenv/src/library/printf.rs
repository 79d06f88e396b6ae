//! `format` of strings. Upstream: ext/formatting.go, as strings version 2 has it.

use super::{Answer, Row, convert, list, text};
use crate::program::EvalError;
use crate::types::Type;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[("format", "string.(list<dyn>) string", format)];

/// Digits after the point where a clause says nothing.
const PRECISION: usize = 6;
/// Most digits after the point that are written.
const PRECISION_MAX: usize = 100;

/// A piece of a template.
enum Piece {
    Text(String),
    Clause {
        verb: char,
        precision: Option<usize>,
    },
}

/// The pieces of a template of which `args` clauses can be filled.
fn pieces(template: &str, args: usize) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut plain = String::new();
    let mut used = 0;
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        match chars.peek() {
            Some('%') => {
                chars.next();
                plain.push('%');
                continue;
            }
            None => return Err("unexpected end of string".into()),
            Some(_) if used >= args => return Err(format!("index {used} out of range")),
            Some(_) => used += 1,
        }
        let precision = match chars.next_if_eq(&'.') {
            None => None,
            Some(_) => Some(precision(&mut chars)?),
        };
        let verb = chars.next().unwrap_or_default();
        if !"sdfebxXo".contains(verb) {
            return Err(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            ));
        }
        out.push(Piece::Text(std::mem::take(&mut plain)));
        out.push(Piece::Clause { verb, precision });
    }
    out.push(Piece::Text(plain));
    Ok(out)
}

fn precision(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<usize, String> {
    let bad = |why: String| {
        Err(format!(
            "could not parse formatting clause: error while parsing precision: {why}"
        ))
    };
    let mut digits = String::new();
    while let Some(d) = chars.next_if(char::is_ascii_digit) {
        digits.push(d);
    }
    if chars.peek().is_none() {
        return bad("could not find end of precision specifier".into());
    }
    match digits.parse::<usize>() {
        Ok(n) => Ok(n.min(PRECISION_MAX)),
        Err(_) => bad(format!(
            "error while converting precision to integer: strconv.Atoi: parsing {digits:?}: invalid syntax"
        )),
    }
}

fn format(a: &[Value]) -> Answer {
    let args = &list(a, 1)?.items;
    let mut left = args.iter();
    let mut out = String::new();
    for piece in pieces(text(a, 0)?, args.len()).map_err(EvalError::of)? {
        match piece {
            Piece::Text(s) => out.push_str(&s),
            Piece::Clause { verb, precision } => {
                let v = left.next().unwrap_or(&Value::Null);
                let made = clause(verb, precision, v)
                    .map_err(|why| EvalError::of(format!("error during formatting: {why}")))?;
                out.push_str(&made);
            }
        }
    }
    Ok(out.into())
}

/// What is wrong about a template that is a literal with arguments of these types, and at which argument.
pub(crate) fn problem(template: &str, args: &[Type]) -> Option<(Option<usize>, String)> {
    let pieces = match pieces(template, args.len()) {
        Ok(p) => p,
        Err(why) => return Some((None, why)),
    };
    let mut used = 0;
    for piece in pieces {
        let Piece::Clause { verb, .. } = piece else {
            continue;
        };
        let t = &args[used];
        if !t.is_dyn() && !allowed(verb, t) {
            let why = refusal(verb, type_name(t).as_str());
            return Some((Some(used), format!("error during formatting: {why}")));
        }
        used += 1;
    }
    (args.len() > used).then(|| {
        let text = "too many arguments supplied to string.format";
        let why = format!("{text} (expected {used}, got {})", args.len());
        (None, why)
    })
}

fn allowed(verb: char, t: &Type) -> bool {
    match (verb, t) {
        ('d' | 'b' | 'x' | 'X' | 'o', Type::Int | Type::Uint)
        | ('b', Type::Bool)
        | ('x' | 'X', Type::String | Type::Bytes)
        | ('f' | 'e', Type::Double | Type::String) => true,
        ('s', t) => !matches!(t, Type::Object(_) | Type::Opaque(_) | Type::Optional(_)),
        _ => false,
    }
}

fn type_name(t: &Type) -> String {
    match t {
        Type::List(_) => "list".into(),
        Type::Map(..) => "map".into(),
        Type::Optional(_) => "optional_type".into(),
        Type::Type(_) => "type".into(),
        t => t.to_string(),
    }
}

fn refusal(verb: char, given: &str) -> String {
    let why = match verb {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        _ => "only integers, byte buffers, and strings can be formatted as hex",
    };
    format!("{why}, was given {given}")
}

fn clause(verb: char, precision: Option<usize>, v: &Value) -> Result<String, String> {
    let whole = match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    match (verb, v, whole) {
        ('s', v, _) => plain(v),
        ('d', _, Some(w)) => Ok(w.to_string()),
        ('f', v, _) => match double(v) {
            Some(d) => Ok(fixed(d, precision.unwrap_or(PRECISION))),
            None => Err(refusal(verb, v.type_name())),
        },
        ('e', v, _) => match double(v) {
            // Upstream takes the precision for a width.
            Some(d) => Ok(format!("{:>1$}", scientific(d), precision.unwrap_or(0))),
            None => Err(refusal(verb, v.type_name())),
        },
        ('b', Value::Bool(b), _) => Ok(u8::from(*b).to_string()),
        ('b' | 'x' | 'X' | 'o', _, Some(w)) => {
            let sign = if w < 0 { "-" } else { "" };
            let w = w.unsigned_abs();
            Ok(match verb {
                'b' => format!("{sign}{w:b}"),
                'x' => format!("{sign}{w:x}"),
                'X' => format!("{sign}{w:X}"),
                _ => format!("{sign}{w:o}"),
            })
        }
        ('x' | 'X', Value::String(s), _) => Ok(hex(s.as_bytes(), verb)),
        ('x' | 'X', Value::Bytes(b), _) => Ok(hex(b, verb)),
        (verb, v, _) => Err(refusal(verb, v.type_name())),
    }
}

fn hex(bytes: &[u8], verb: char) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    if verb == 'X' { hex.to_uppercase() } else { hex }
}

fn double(v: &Value) -> Option<f64> {
    match v {
        Value::Double(d) => Some(*d),
        Value::String(s) => match s.as_ref() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(d: f64) -> Option<String> {
    let sign = if d < 0.0 { "-" } else { "" };
    match d {
        d if d.is_nan() => Some("NaN".into()),
        d if d.is_infinite() => Some(format!("{sign}∞")),
        _ => None,
    }
}

/// English groups of thousands.
fn fixed(d: f64, digits: usize) -> String {
    if let Some(text) = not_finite(d) {
        return text;
    }
    let text = format!("{:.digits$}", d.abs());
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (text.as_str(), String::new()),
    };
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(c);
    }
    let sign = if d.is_sign_negative() { "-" } else { "" };
    format!("{sign}{grouped}{rest}")
}

fn scientific(d: f64) -> String {
    if let Some(text) = not_finite(d) {
        return text;
    }
    let text = format!("{d:.PRECISION$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(e) => ("⁻", e),
        None => ("", exponent),
    };
    let raised = |c: char| {
        c.to_digit(10)
            .and_then(|n| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(n as usize))
    };
    let exponent: String = format!("{exponent:0>2}")
        .chars()
        .filter_map(raised)
        .collect();
    format!("{mantissa}×10{sign}{exponent}")
}

fn plain(v: &Value) -> Result<String, String> {
    Ok(match v {
        Value::Double(d) => convert::double_text(*d),
        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Value::Timestamp(t) => t.to_string(),
        Value::Duration(d) => super::time::duration_text(*d),
        Value::Type(t) => t.to_string(),
        Value::List(l) => {
            let items: Result<Vec<String>, String> = l.items.iter().map(within).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(m) if m.type_name.is_none() => {
            let mut entries = Vec::new();
            for (k, v) in m.entries() {
                if !matches!(
                    k,
                    Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)
                ) {
                    let t = k.type_name();
                    return Err(format!("no formatting function for map key of type {t}"));
                }
                entries.push(format!("{}:{}", within(&k)?, within(v)?));
            }
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Map(_) | Value::Optional(_) | Value::Foreign(_) => {
            return Err(refusal('s', v.type_name()));
        }
        v => super::shown(v),
    })
}

/// A value within a list or map, as a literal would write it.
fn within(v: &Value) -> Result<String, String> {
    Ok(match v {
        Value::String(s) => format!("{s:?}"),
        Value::Bytes(b) => format!("b{:?}", String::from_utf8_lossy(b)),
        Value::Double(d) if d.is_nan() => "\"NaN\"".into(),
        Value::Double(d) if d.is_infinite() => {
            let sign = if *d > 0.0 { "+" } else { "-" };
            format!("\"{sign}Inf\"")
        }
        Value::Double(d) => format!("{d:.PRECISION$}"),
        Value::Timestamp(t) => format!("timestamp({:?})", t.to_string()),
        Value::Duration(d) => format!("duration({:?})", super::time::duration_text(*d)),
        Value::Type(t) => format!("type({t})"),
        v => plain(v)?,
    })
}
