//! Regular expressions, each compiled once in the life of the process. Upstream: `matches` of the standard
//! library, k8s.io/apiserver/pkg/cel/library/regex.go; RE2 on both sides.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;

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
    let made = match stdx::regexp::compile(text, limits::PATTERN_BYTES_MAX) {
        Ok(r) => r,
        Err(e) => return fail(e),
    };
    if known.len() >= limits::PATTERNS_MAX {
        known.clear();
    }
    known.insert(text.to_string(), made.clone());
    Ok(made)
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
