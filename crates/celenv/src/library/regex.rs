//! Regular expressions, each compiled once in the life of the process. Upstream: `matches` of the standard
//! library, k8s.io/apiserver/pkg/cel/library/regex.go; RE2 on both sides.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

use super::{Answer, Row, fail, int, text};
use crate::limits;
use crate::program::EvalError;
use crate::value::Value;

pub(super) const TABLE: &[Row] = &[
    ("matches", "(string,string) bool", matches),
    ("matches", "string.(string) bool", matches),
    ("find", "string.(string) string", find),
    ("findAll", "string.(string) list<string>", find_all),
    ("findAll", "string.(string,int) list<string>", find_all),
];

static KNOWN: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

/// The compiled pattern, from what was compiled before if it is there.
pub(crate) fn pattern(text: &str) -> Result<Regex, EvalError> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(r) = known.get(text) {
        return Ok(r.clone());
    }
    let made = RegexBuilder::new(text)
        .size_limit(limits::PATTERN_BYTES_MAX)
        .build();
    let made = match made {
        Ok(r) => r,
        Err(e) => {
            return fail(format!("error parsing regexp: {}", problem(text, &e)));
        }
    };
    if known.len() >= limits::PATTERNS_MAX {
        known.clear();
    }
    known.insert(text.to_string(), made.clone());
    Ok(made)
}

/// What is wrong about a pattern, in the words of Go's parser.
fn problem(text: &str, e: &regex::Error) -> String {
    let shown = e.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let reason = lines.last().copied().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ");
    // The parser marks the place below the pattern, which it indents.
    let mark = lines.iter().find(|l| l.trim_start().starts_with('^'));
    let from = mark
        .and_then(|l| l.find('^'))
        .map_or(0, |i| i.saturating_sub(4));
    let long = mark.map_or(0, |l| l.matches('^').count());
    let part: String = text.chars().skip(from).take(long).collect();
    let rest: String = text.chars().skip(from).collect();
    match reason {
        "unclosed group" => format!("missing closing ): `{text}`"),
        "unopened group" => format!("unexpected ): `{text}`"),
        "unclosed character class" => format!("missing closing ]: `{rest}`"),
        "repetition operator missing expression" => {
            format!("missing argument to repetition operator: `{part}`")
        }
        r if r.starts_with("look-around") => {
            format!("invalid or unsupported Perl syntax: `{part}`")
        }
        r if r.starts_with("unrecognized escape") || r.starts_with("backreferences") => {
            format!("invalid escape sequence: `{part}`")
        }
        r if r.starts_with("invalid character class range") => {
            format!("invalid character class range: `{part}`")
        }
        r if r.starts_with("invalid repetition count range") => {
            format!("invalid repeat count: `{part}`")
        }
        r => format!("{r}: `{text}`"),
    }
}

fn matches(a: &[Value]) -> Answer {
    Ok(pattern(text(a, 1)?)?.is_match(text(a, 0)?).into())
}

fn illegal(e: EvalError) -> EvalError {
    EvalError::of(format!("Illegal regex: {e}"))
}

fn find(a: &[Value]) -> Answer {
    let p = pattern(text(a, 1)?).map_err(illegal)?;
    Ok(p.find(text(a, 0)?).map_or("", |m| m.as_str()).into())
}

fn find_all(a: &[Value]) -> Answer {
    let p = pattern(text(a, 1)?).map_err(illegal)?;
    let count = if a.len() > 2 { int(a, 2)? } else { -1 };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = p
        .find_iter(text(a, 0)?)
        .take(count)
        .map(|m| m.as_str().into());
    Ok(Value::list(found.collect()))
}
