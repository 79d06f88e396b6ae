//! Semantic versions. Upstream: k8s.io/apiserver/pkg/cel/library/semverlib.go.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{Answer, Foreign, Row, fail, foreign, none, text};
use crate::program::EvalError;
use crate::value::Value;

/// A version.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: String,
}

pub(super) const TABLE: &[Row] = &[
    ("semver", "(string) Semver", |a| made(parse(text(a, 0)?))),
    ("semver", "(string,bool) Semver", |a| made(read(a)?)),
    ("isSemver", "(string) bool", |a| {
        Ok(parse(text(a, 0)?).is_ok().into())
    }),
    ("isSemver", "(string,bool) bool", |a| {
        Ok(read(a)?.is_ok().into())
    }),
    ("isGreaterThan", "Semver.(Semver) bool", |a| {
        Ok(semver(a, 0)?.order(semver(a, 1)?).is_gt().into())
    }),
    ("isLessThan", "Semver.(Semver) bool", |a| {
        Ok(semver(a, 0)?.order(semver(a, 1)?).is_lt().into())
    }),
    ("compareTo", "Semver.(Semver) int", |a| {
        Ok((semver(a, 0)?.order(semver(a, 1)?) as i64).into())
    }),
    ("major", "Semver.() int", |a| number(a, 0)),
    ("minor", "Semver.() int", |a| number(a, 1)),
    ("patch", "Semver.() int", |a| number(a, 2)),
];

fn semver(a: &[Value], n: usize) -> Result<&Semver, EvalError> {
    match foreign(a, n)? {
        Foreign::Semver(v) => Ok(v),
        _ => none(),
    }
}

fn number(a: &[Value], n: usize) -> Answer {
    Ok(i64::try_from(semver(a, 0)?.numbers[n])
        .unwrap_or(i64::MAX)
        .into())
}

fn made(v: Result<Semver, String>) -> Answer {
    match v {
        Ok(v) => Ok(Value::Foreign(Arc::new(Foreign::Semver(v)))),
        Err(e) => fail(e),
    }
}

fn read(a: &[Value]) -> Result<Result<Semver, String>, EvalError> {
    let s = text(a, 0)?;
    Ok(match a.get(1) {
        Some(Value::Bool(true)) => normal(s).and_then(|s| parse(&s)),
        _ => parse(s),
    })
}

/// `v1.02` becomes `1.2.0`.
fn normal(s: &str) -> Result<String, String> {
    let s = s.strip_prefix('v').unwrap_or(s);
    let mut parts: Vec<String> = s.splitn(3, '.').map(String::from).collect();
    for p in &mut parts {
        if p.len() > 1 {
            let cut = p.trim_start_matches('0');
            *p = match cut.starts_with(|c: char| c.is_ascii_digit()) {
                true => cut.to_string(),
                false => format!("0{cut}"),
            };
        }
    }
    if parts.len() < 3 && parts.last().is_some_and(|p| p.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_string());
    }
    parts.resize(3, "0".to_string());
    Ok(parts.join("."))
}

fn parse(s: &str) -> Result<Semver, String> {
    if s.is_empty() {
        return Err("Version string empty".to_string());
    }
    let (rest, build) = s.split_once('+').unwrap_or((s, ""));
    let (numbers, pre) = match rest.split_once('-') {
        Some((n, p)) => (n, Some(p)),
        None => (rest, None),
    };
    let parts: Vec<&str> = numbers.splitn(3, '.').collect();
    let [major, minor, patch] = parts.as_slice() else {
        return Err("No Major.Minor.Patch elements found".to_string());
    };
    let number = |name: &str, s: &str| {
        if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Invalid character(s) found in {name} number {s:?}"));
        }
        if s.len() > 1 && s.starts_with('0') {
            let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
            return Err(format!(
                "{title} number must not contain leading zeroes {s:?}"
            ));
        }
        s.parse::<u64>().map_err(|e| e.to_string())
    };
    let identifier =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let pre: Vec<String> = pre
        .map(|p| p.split('.').map(String::from).collect())
        .unwrap_or_default();
    let numbers = [
        number("major", major)?,
        number("minor", minor)?,
        number("patch", patch)?,
    ];
    for p in &pre {
        if p.is_empty() {
            return Err("Prerelease is empty".to_string());
        }
        if !identifier(p) {
            return Err(format!("Invalid character(s) found in prerelease {p:?}"));
        }
        if p.len() > 1 && p.starts_with('0') && p.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {p:?}"
            ));
        }
    }
    if s.contains('+') && !build.split('.').all(identifier) {
        return Err(format!(
            "Invalid character(s) found in build meta data {build:?}"
        ));
    }
    Ok(Semver {
        numbers,
        pre,
        build: build.to_string(),
    })
}

impl Semver {
    /// Precedence: builds do not count.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let one = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => {
                let mut pairs = self.pre.iter().zip(&other.pre).map(|(a, b)| one(a, b));
                pairs
                    .find(|o| o.is_ne())
                    .unwrap_or(self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}
