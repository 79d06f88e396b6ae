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
    let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
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
    Ok(Url {
        whole: raw.to_string(),
        scheme,
        host: host.to_string(),
        path: path.to_string(),
        query: query.to_string(),
    })
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
    for pair in url(a)?.query.split('&').filter(|p| !p.is_empty()) {
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
            (b'+', _) => out.push(b' '),
            (b, _) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
