//! Strings. Upstream: the standard library and ext/strings version 2.

use super::{Answer, Row, fail, int, list, none, text};
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("contains", "string.(string) bool", |a| {
        Ok(text(a, 0)?.contains(text(a, 1)?).into())
    }),
    ("startsWith", "string.(string) bool", |a| {
        Ok(text(a, 0)?.starts_with(text(a, 1)?).into())
    }),
    ("endsWith", "string.(string) bool", |a| {
        Ok(text(a, 0)?.ends_with(text(a, 1)?).into())
    }),
    ("charAt", "string.(int) string", char_at),
    ("indexOf", "string.(string) int", index_of),
    ("indexOf", "string.(string,int) int", index_of),
    ("lastIndexOf", "string.(string) int", last_index_of),
    ("lastIndexOf", "string.(string,int) int", last_index_of),
    ("lowerAscii", "string.() string", |a| {
        Ok(text(a, 0)?.to_ascii_lowercase().into())
    }),
    ("upperAscii", "string.() string", |a| {
        Ok(text(a, 0)?.to_ascii_uppercase().into())
    }),
    ("replace", "string.(string,string) string", replace),
    ("replace", "string.(string,string,int) string", replace),
    ("split", "string.(string) list<string>", split),
    ("split", "string.(string,int) list<string>", split),
    ("substring", "string.(int) string", substring),
    ("substring", "string.(int,int) string", substring),
    ("trim", "string.() string", |a| {
        Ok(text(a, 0)?.trim().into())
    }),
    ("join", "list<string>.() string", join),
    ("join", "list<string>.(string) string", join),
    ("strings.quote", "(string) string", |a| {
        Ok(quote(text(a, 0)?).into())
    }),
    ("jsonpatch.escapeKey", "(string) string", |a| {
        Ok(text(a, 0)?.replace('~', "~0").replace('/', "~1").into())
    }),
];

fn char_at(a: &[Value]) -> Answer {
    let (s, i) = (text(a, 0)?, int(a, 1)?);
    let count = s.chars().count();
    match usize::try_from(i) {
        Ok(i) if i == count => Ok("".into()),
        Ok(i) if i < count => Ok(s.chars().nth(i).map_or(String::new(), String::from).into()),
        _ => fail(format!("index out of range: {i}")),
    }
}

/// Where searches begin; nothing is found from the end of the text on.
fn offset(a: &[Value], otherwise: usize) -> Result<usize, crate::program::EvalError> {
    if a.len() < 3 {
        return Ok(otherwise);
    }
    let i = int(a, 2)?;
    usize::try_from(i).or_else(|_| fail(format!("index out of range: {i}")))
}

fn index_of(a: &[Value]) -> Answer {
    let s: Vec<char> = text(a, 0)?.chars().collect();
    let part: Vec<char> = text(a, 1)?.chars().collect();
    let from = offset(a, 0)?;
    if part.is_empty() {
        return Ok(i64::try_from(from.min(s.len())).unwrap_or(-1).into());
    }
    if from >= s.len() {
        return Ok((-1).into());
    }
    let found = s[from..].windows(part.len()).position(|w| w == part);
    Ok(found
        .map_or(-1, |i| i64::try_from(from + i).unwrap_or(-1))
        .into())
}

fn last_index_of(a: &[Value]) -> Answer {
    let s: Vec<char> = text(a, 0)?.chars().collect();
    let part: Vec<char> = text(a, 1)?.chars().collect();
    let from = offset(a, s.len())?;
    if part.is_empty() {
        return Ok(i64::try_from(from.min(s.len())).unwrap_or(-1).into());
    }
    if a.len() > 2 && from >= s.len() {
        return Ok((-1).into());
    }
    let found = s.windows(part.len()).enumerate().rev();
    let found = found.filter(|(i, _)| *i <= from).find(|(_, w)| *w == part);
    Ok(found
        .map_or(-1, |(i, _)| i64::try_from(i).unwrap_or(-1))
        .into())
}

fn replace(a: &[Value]) -> Answer {
    let (s, old, new) = (text(a, 0)?, text(a, 1)?, text(a, 2)?);
    let count = if a.len() > 3 { int(a, 3)? } else { -1 };
    Ok(match usize::try_from(count) {
        Ok(n) => s.replacen(old, new, n),
        Err(_) => s.replace(old, new),
    }
    .into())
}

fn split(a: &[Value]) -> Answer {
    let (s, by) = (text(a, 0)?, text(a, 1)?);
    let count = if a.len() > 2 { int(a, 2)? } else { -1 };
    let by_char = || s.chars().map(String::from).collect::<Vec<_>>();
    let parts: Vec<String> = match usize::try_from(count) {
        Ok(0) => Vec::new(),
        Ok(n) if by.is_empty() => {
            let mut parts = by_char();
            if parts.len() > n {
                let rest = parts.split_off(n - 1).concat();
                parts.push(rest);
            }
            parts
        }
        Ok(n) => s.splitn(n, by).map(String::from).collect(),
        Err(_) if by.is_empty() => by_char(),
        Err(_) => s.split(by).map(String::from).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::from).collect()))
}

fn substring(a: &[Value]) -> Answer {
    let s: Vec<char> = text(a, 0)?.chars().collect();
    let size = i64::try_from(s.len()).unwrap_or(i64::MAX);
    let from = int(a, 1)?;
    let to = if a.len() > 2 { int(a, 2)? } else { size };
    if a.len() > 2 && from > to {
        return fail(format!("invalid substring range. start: {from}, end: {to}"));
    }
    if from < 0 || from > size {
        return fail(format!("index out of range: {from}"));
    }
    if to > size {
        return fail(format!("index out of range: {to}"));
    }
    let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
    Ok(s[range].iter().collect::<String>().into())
}

fn join(a: &[Value]) -> Answer {
    let by = if a.len() > 1 { text(a, 1)? } else { "" };
    let mut out = String::new();
    for (i, v) in list(a, 0)?.items.iter().enumerate() {
        if i > 0 {
            out.push_str(by);
        }
        match v.as_str() {
            Some(s) => out.push_str(s),
            None => return none(),
        }
    }
    Ok(out.into())
}

/// A string as a literal. Upstream escapes these only.
fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
