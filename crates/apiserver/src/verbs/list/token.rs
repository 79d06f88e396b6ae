//! Where a list goes on. Upstream: apiserver/pkg/storage continue.go.

use base64::Engine;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;
use serde_json::Value;

/// Of tokens.
const VERSION: &str = "meta.k8s.io/v1";
/// Their encoding: Go does not mind bits that are left over.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where a list goes on: upstream's token, base64 of this as JSON.
#[derive(Debug, Default, Serialize)]
pub struct Continue {
    v: String,
    /// Below 0 the newest.
    pub rv: i64,
    pub start: String,
}

/// A token that goes on right after a key.
pub fn after(revision: u64, last_key: &str) -> String {
    let rv = i64::try_from(revision).unwrap_or(0);
    encode(&Continue {
        v: VERSION.into(),
        rv,
        start: format!("/{last_key}\0"),
    })
}

fn encode(c: &Continue) -> String {
    TOKENS.encode(serde_json::to_vec(c).unwrap_or_default())
}

/// Whether a text says where a list goes on.
pub fn is_token(text: &str) -> bool {
    parse(text).is_ok()
}

/// Upstream: storage.DecodeContinue.
pub fn parse(text: &str) -> Result<Continue, String> {
    let invalid = "continue key is not valid";
    if let Some(why) = api::go::base64_error(text) {
        return Err(format!("{invalid}: {why}"));
    }
    let text: String = text.chars().filter(|c| !['\r', '\n'].contains(c)).collect();
    let data = TOKENS.decode(text).unwrap_or_default();
    if let Some(why) = api::go::json::syntax_error(&data) {
        return Err(format!("{invalid}: {why}"));
    }
    let mut c = Continue::of(&data).map_err(|why| format!("{invalid}: {why}"))?;
    if c.v != VERSION {
        let version = &c.v;
        return Err(format!(
            "{invalid}: server does not recognize this encoded version {version}"
        ));
    }
    if c.rv == 0 {
        return Err(format!(
            "{invalid}: incorrect encoded start resourceVersion (version {VERSION})"
        ));
    }
    if c.start.is_empty() {
        return Err(format!(
            "{invalid}: encoded start key empty (version {VERSION})"
        ));
    }
    // Those of older servers begin without a slash.
    let start = c.start.strip_prefix('/').unwrap_or(&c.start);
    let clean = start.split('/').all(|p| !["", ".", ".."].contains(&p));
    if !clean && !start.is_empty() {
        return Err(format!("{invalid}: {}", c.start));
    }
    c.start = start.to_string();
    Ok(c)
}

// === Continue ===

impl Continue {
    /// The beginning at a revision.
    pub fn at(revision: u64) -> Self {
        Self {
            v: VERSION.into(),
            rv: i64::try_from(revision).unwrap_or(i64::MAX),
            start: String::new(),
        }
    }

    /// A token that goes on at the same place, at the newest revision.
    pub fn newest(&self) -> String {
        encode(&Self {
            v: VERSION.into(),
            rv: -1,
            start: self.start.clone(),
        })
    }

    /// Reads a token's JSON; an error is Go's text.
    fn of(data: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(data).map_err(|e| e.to_string())?;
        let kind = |v: &Value| match v {
            Value::String(_) => "string".into(),
            Value::Number(n) => format!("number {n}"),
            Value::Bool(_) => "bool".into(),
            Value::Array(_) => "array".into(),
            _ => String::from("object"),
        };
        if value.is_null() {
            return Ok(Self::default());
        }
        let Value::Object(map) = &value else {
            let kind = kind(&value);
            let kind = kind.split(' ').next().unwrap_or_default();
            return Err(format!(
                "json: cannot unmarshal {kind} into Go value of type storage.continueToken"
            ));
        };
        let mut out = Self::default();
        for (key, value) in map.iter().filter(|(_, v)| !v.is_null()) {
            let (name, wanted, good) = match key.to_lowercase().as_str() {
                "v" => ("v", "string", value.as_str().map(|t| out.v = t.into())),
                "rv" => ("rv", "int64", value.as_i64().map(|n| out.rv = n)),
                "start" => (
                    "start",
                    "string",
                    value.as_str().map(|t| out.start = t.into()),
                ),
                _ => continue,
            };
            if good.is_none() {
                let mut kind = kind(value);
                if wanted == "string" && value.is_number() {
                    kind = "number".into();
                }
                return Err(format!(
                    "json: cannot unmarshal {kind} into Go struct field continueToken.{name} of type {wanted}"
                ));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_refused_as_upstream_refuses_them() {
        let of = |json: &str| TOKENS.encode(json);
        let whole = "{\"v\":\"meta.k8s.io/v1\",\"rv\":5,\"start\":\"S\"}";
        let start = |s: &str| of(&whole.replace('S', s));
        for (token, why) in [
            (
                "garbage".into(),
                ": invalid character '\\u0081' looking for beginning of value",
            ),
            ("e30=".into(), ": illegal base64 data at input byte 3"),
            (of("{"), ": unexpected end of JSON input"),
            (
                of("{}"),
                ": server does not recognize this encoded version ",
            ),
            (
                of("7"),
                ": json: cannot unmarshal number into Go value of type storage.continueToken",
            ),
            (
                of("{\"rv\":\"x\"}"),
                ": json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (
                of("{\"v\":\"meta.k8s.io/v1\"}"),
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                start(""),
                ": encoded start key empty (version meta.k8s.io/v1)",
            ),
            (start("/../x"), ": /../x"),
            (start("a//b"), ": a//b"),
            (start("a/"), ": a/"),
        ] {
            let expected = format!("continue key is not valid{why}");
            assert_eq!(parse(&token).map(|c| c.start), Err(expected));
        }
        for text in ["a/b", "/a/b"] {
            assert_eq!(parse(&start(text)).map(|c| c.start), Ok("a/b".into()));
        }
    }
}
