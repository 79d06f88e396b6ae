//! URLs. Upstream: k8s.io/apiserver/pkg/cel/library/urls.go over Go's `url.ParseRequestURI`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answer, Foreign, Row, fail, foreign, none, text};
use crate::program::EvalError;
use crate::value::{Map, Value};

/// An absolute URL, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub whole: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) const TABLE: &[Row] = &[
    ("url", "(string) Url", |a| match parse(text(a, 0)?) {
        Ok(u) => Ok(Value::Foreign(Arc::new(Foreign::Url(u)))),
        Err(e) => fail(format!(
            "URL parse error during conversion from string: {e}"
        )),
    }),
    ("isURL", "(string) bool", |a| {
        Ok(parse(text(a, 0)?).is_ok().into())
    }),
    ("getScheme", "Url.() string", |a| {
        Ok(url(a)?.scheme.as_str().into())
    }),
    ("getHost", "Url.() string", |a| {
        Ok(url(a)?.host.as_str().into())
    }),
    ("getHostname", "Url.() string", |a| {
        Ok(host_and_port(&url(a)?.host).0.into())
    }),
    ("getPort", "Url.() string", |a| {
        Ok(host_and_port(&url(a)?.host).1.into())
    }),
    ("getEscapedPath", "Url.() string", |a| {
        Ok(url(a)?.path.as_str().into())
    }),
    ("getQuery", "Url.() map<string,list<string>>", query),
];

fn url(a: &[Value]) -> Result<&Url, EvalError> {
    match foreign(a, 0)? {
        Foreign::Url(u) => Ok(u),
        _ => none(),
    }
}

pub(super) fn parse(raw: &str) -> Result<Url, String> {
    let bad = |why: &str| Err(format!("parse {raw:?}: {why}"));
    if raw.is_empty() {
        return bad("empty url");
    }
    if raw == "*" {
        return Ok(Url {
            whole: raw.to_string(),
            scheme: String::new(),
            host: String::new(),
            path: raw.to_string(),
            query: String::new(),
        });
    }
    if raw.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return bad("net/url: invalid control character in URL");
    }
    let scheme_end = raw.find(':').filter(|end| {
        let mut bytes = raw[..*end].bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let (scheme, rest) = match scheme_end {
        Some(end) => (raw[..end].to_ascii_lowercase(), &raw[end + 1..]),
        None if raw.starts_with(':') => return bad("missing protocol scheme"),
        None => (String::new(), raw),
    };
    let rest = rest.split_once('#').map_or(rest, |(r, _)| r);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') && scheme.is_empty() {
        return bad("invalid URI for request");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(r) if !scheme.is_empty() => r.split_at(r.find('/').unwrap_or(r.len())),
        _ => ("", rest),
    };
    let raw_path = path;
    let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    if host.starts_with('[') && !host.contains(']') {
        return bad("missing ']' in host");
    }
    for part in [host, path] {
        if let Some(wrong) = wrong_escape(part) {
            return bad(&format!("invalid URL escape {wrong:?}"));
        }
    }
    let path = escaped(path);
    let (_, port) = host_and_port(host);
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return bad(&format!("invalid port {:?} after host", format!(":{port}")));
    }
    if host.bytes().any(|b| b" <>\"{}|\\^`".contains(&b)) {
        let c = host
            .chars()
            .find(|c| " <>\"{}|\\^`".contains(*c))
            .unwrap_or(' ');
        return bad(&format!(
            "invalid character {:?} in host name",
            c.to_string()
        ));
    }
    let whole = match path == raw_path {
        true => raw.to_string(),
        false => raw.replacen(raw_path, &path, 1),
    };
    Ok(Url {
        whole,
        scheme,
        host: host.to_string(),
        path,
        query: query.to_string(),
    })
}

/// A percent sign that two hexadecimal digits do not follow, with what does.
fn wrong_escape(s: &str) -> Option<String> {
    let at = s.match_indices('%').map(|(i, _)| i).find(|i| {
        let digits = s.get(i + 1..i + 3);
        !digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
    })?;
    Some(s[at..].chars().take(3).collect())
}

/// A path as Go writes it: as it is if that is a valid encoding, and else encoded.
fn escaped(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&b);
    if path.bytes().all(plain) {
        return path.to_string();
    }
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    let mut out = String::with_capacity(path.len());
    for b in bytes_of(path) {
        if keep(b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn host_and_port(host: &str) -> (&str, &str) {
    if let Some(v6) = host.strip_prefix('[') {
        let (address, rest) = v6.split_once(']').unwrap_or((v6, ""));
        return (address, rest.strip_prefix(':').unwrap_or(""));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn query(a: &[Value]) -> Answer {
    let mut found: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    // A pair with a semicolon is dropped, as Go does.
    let pairs = url(a)?.query.split('&');
    for pair in pairs.filter(|p| !p.is_empty() && !p.contains(';')) {
        let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
        found
            .entry(Arc::from(decoded(k)))
            .or_default()
            .push(decoded(v).into());
    }
    Ok(Value::map(Map {
        fields: found
            .into_iter()
            .map(|(k, v)| (k, Value::list(v)))
            .collect(),
        ..Map::default()
    }))
}

fn decoded(s: &str) -> String {
    String::from_utf8_lossy(&bytes_of(&s.replace('+', " "))).into_owned()
}

/// The bytes that an encoded text stands for.
fn bytes_of(s: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(s.len());
    let bytes = s.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let hex = s
            .get(i + 1..i + 3)
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(b)) => {
                out.push(b);
                i += 3;
                continue;
            }
            (b, _) => out.push(b),
        }
        i += 1;
    }
    out
}
