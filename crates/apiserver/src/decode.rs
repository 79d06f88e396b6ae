//! Request bodies to JSON values that conform to the endpoint's kind.

use api::schema::{self, Schema};
use bytes::Bytes;
use machinery::causes::is_float;
use machinery::{ApiError, conform};
use serde_json::{Number, Value};

use crate::call::{Call, Validation};
use crate::negotiate::{self, Media};

mod cbor;
mod custom;
mod type_meta;
mod yaml;

pub use type_meta::type_meta;
pub use yaml::yaml;

/// A decoded body and what strict decoding has to say of its text.
pub struct Decoded {
    pub value: Value,
    pub findings: Vec<String>,
}

/// Decodes a body that must be an object. `kind` names the endpoint's kind in errors.
pub fn object(data: &Bytes, media: Media, kind: &str) -> Result<Value, ApiError> {
    decoded(data, media, ("v1", kind), None).map(|d| d.value)
}

/// Decodes a body; with a schema, fields that it does not know are found too (in JSON: in the order
/// of the text; otherwise by `conform`).
fn decoded(
    data: &Bytes,
    media: Media,
    (version, kind): (&str, &str),
    schema: Option<&Schema>,
) -> Result<Decoded, ApiError> {
    let unrecognized = |why: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(data)
        ))
    };
    let (value, findings) = match media {
        Media::Json => conform::parse(data, schema).map_err(|e| {
            unrecognized(&format!("couldn't get version/kind; json parse error: {e}"))
        })?,
        Media::Yaml => yaml(data).map_err(|e| unrecognized(&e))?,
        Media::Protobuf => {
            let value = api::protobuf::decode(data).map_err(|e| unrecognized(&e.0))?;
            (value, Vec::new())
        }
        Media::Cbor => cbor::decoded(data, schema).map_err(|e| match e.of_kind {
            true => cannot_be_handled(kind, version, &e.text),
            false => unrecognized(&e.text),
        })?,
    };
    if value.is_null() && media != Media::Protobuf {
        // Like an object without anything, to Go.
        let value = Value::Object(serde_json::Map::new());
        return Ok(Decoded { value, findings });
    }
    if value.is_object() {
        let text = (media == Media::Json).then_some((&data[..], &findings[..]));
        type_meta(&value, text).map_err(|why| unrecognized(&why))?;
        return Ok(Decoded { value, findings });
    }
    Err(unrecognized(&not_an_object(&value)))
}

/// Why a value that is no object is refused.
pub fn not_an_object(value: &Value) -> String {
    let what = go_kind(value);
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

/// A body whose version and kind are known, and that is wrong all the same.
fn cannot_be_handled(kind: &str, version: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

/// What Go's JSON package calls a value.
pub fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Null => "null",
    }
}

/// The endpoint's own kind from a body: decoded, of the right kind, conforming, and strict or warned
/// about as fieldValidation asks.
pub fn own(call: &Call, data: &Bytes) -> Result<Value, ApiError> {
    let d = call.descriptor().clone();
    let cbor = call.server.serves_cbor();
    let media = negotiate::request(&call.headers, call.has_protobuf(), cbor)?;
    let schema = schema::lookup(&d.group, &d.version, &d.kind);
    let Decoded {
        mut value,
        findings,
    } = decoded(data, media, (&d.version, &d.kind), schema)?;
    if call.is_custom() {
        custom::decoded(call, &mut value, findings, (data, media))?;
        return Ok(value);
    }
    check_kind(&mut value, &d.api_version(), &d.kind)?;
    let wrong = |why: String| cannot_be_handled(&d.kind, &d.version, &why);
    let unknown = conformed(call, &mut value).map_err(wrong)?;
    let mut all = findings;
    // Of JSON the parser has told them already, in the order of the text.
    if ![Media::Json, Media::Cbor].contains(&media) || schema.is_none() {
        all.extend(unknown);
    }
    told(call, all).map_err(wrong)?;
    Ok(value)
}

fn other_version(given: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({expected})"
    ))
}

/// Numbers without a fraction as Go writes them: without a point. A request's `2.0` is a float until its object
/// is stored, and an integer when it is read again.
pub fn whole_numbers(value: &mut Value) {
    numbers(value, &|n| {
        n.as_f64().filter(|_| is_float(n)).and_then(number)
    });
}

/// Integers that Go has no 64 bits with a sign for are floats, and have the digits that it writes of those. One that
/// is an integer here keeps this form, so that what is stored equals what comes.
fn large_numbers(value: &mut Value) {
    const MIN: f64 = 9_223_372_036_854_775_808.0;
    let large = |n: &Number| n.as_f64().filter(|f| is_float(n) && f.abs() >= MIN);
    numbers(value, &|n| large(n).and_then(number));
}

/// A float as Go's JSON writes and reads it: without a fraction it is all digits, and an integer where that has 64
/// bits; as no Go float is beyond those with a sign, it stays one there ([`is_float`]).
pub fn number(n: f64) -> Option<Number> {
    const EXPONENT: f64 = 1e21;
    if n.fract() == 0.0 && n.abs() < EXPONENT {
        let digits = n.to_string();
        if let Ok(whole) = digits.parse::<i64>() {
            return Some(whole.into());
        }
        if let Ok(large) = digits.parse::<u64>() {
            return Some(large.into());
        }
    }
    Number::from_f64(n)
}

/// Puts other numbers where `other` gives one.
fn numbers(value: &mut Value, other: &dyn Fn(&Number) -> Option<Number>) {
    match value {
        Value::Number(n) => {
            if let Some(new) = other(n) {
                *n = new;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| numbers(v, other)),
        Value::Object(map) => map.values_mut().for_each(|v| numbers(v, other)),
        _ => {}
    }
}

/// Makes a value conform to the endpoint's kind; gives the texts of its unknown fields, or why it does not decode.
pub fn conformed(call: &Call, value: &mut Value) -> Result<Vec<String>, String> {
    let d = call.descriptor();
    if let Some(schema) = schema::lookup(&d.group, &d.version, &d.kind) {
        return conform::conform(schema, value);
    }
    let mut out = metadata(value)?;
    let unknown = d.strategy.coerce(value)?.into_iter();
    out.extend(unknown.map(|path| format!("unknown field \"{path}\"")));
    Ok(out)
}

/// Makes what an applied configuration came to conform. Of a custom resource that is only its metadata: validation
/// judges the rest as it is.
pub fn applied(call: &Call, value: &mut Value) -> Result<(), ApiError> {
    if call.is_custom() {
        whole_numbers(value);
        return metadata(value).map(|_| ()).map_err(ApiError::internal);
    }
    let d = call.descriptor();
    conformed(call, value)
        .map(|_| ())
        .map_err(|why| cannot_be_handled(&d.kind, &d.version, &why))
}

/// Makes numbers and metadata those that Go would read; gives the texts of unknown fields.
fn metadata(value: &mut Value) -> Result<Vec<String>, String> {
    large_numbers(value);
    let meta = schema::lookup("meta.k8s.io", "v1", "ObjectMeta");
    let (Some(meta), Some(fields)) = (meta, value.get_mut("metadata")) else {
        return Ok(Vec::new());
    };
    let unknown = conform::conform_at(meta, fields, "metadata")?;
    if fields.is_null() {
        *fields = Value::Object(serde_json::Map::new());
    }
    Ok(unknown)
}

/// Tells about findings as fieldValidation asks: an error, warnings, or nothing.
pub fn told(call: &Call, findings: Vec<String>) -> Result<(), String> {
    match call.validation() {
        Validation::Strict if !findings.is_empty() => {
            Err(format!("strict decoding error: {}", strict_text(&findings)))
        }
        Validation::Warn => {
            findings.into_iter().for_each(|t| call.warn(t));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Findings as one error; those of YAML's parser, which name lines, are one in the words of Go's.
pub fn strict_text(findings: &[String]) -> String {
    let (lines, others): (Vec<&String>, Vec<&String>) =
        findings.iter().partition(|f| f.starts_with("line "));
    let mut all: Vec<String> = others.into_iter().cloned().collect();
    if !lines.is_empty() {
        let lines: Vec<String> = lines.iter().map(|l| format!("\n  {l}")).collect();
        all.insert(0, format!("yaml: unmarshal errors:{}", lines.concat()));
    }
    all.join(", ")
}

/// Upstream's short form of a body for errors.
fn summary(data: &[u8]) -> String {
    if data.is_empty() {
        return "<empty>".into();
    }
    let cut = if data.len() > 30 { " ..." } else { "" };
    let head = &data[..data.len().min(30)];
    if data[0] == b'{' {
        format!("{}{cut}", String::from_utf8_lossy(head))
    } else {
        let hex: String = head.iter().map(|b| format!("{b:02x}")).collect();
        format!("{hex}{cut}")
    }
}

/// Makes sure that an object is of the endpoint's kind and version; fills both in where absent.
pub fn check_kind(value: &mut Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let given_kind = value.get("kind").and_then(Value::as_str).unwrap_or("");
    let given_version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or("");
    if !given_kind.is_empty() && given_kind != kind {
        let version = given_version.rsplit('/').next().unwrap_or("");
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version \"{version}\" cannot be handled as a {kind}: no kind \"{given_kind}\" is registered for version \"{given_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )));
    }
    if !given_version.is_empty() && given_version != api_version {
        return Err(other_version(given_version, api_version));
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
        match map.get("metadata") {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => {
                map.insert("metadata".into(), Value::Object(serde_json::Map::new()));
            }
            Some(other) => {
                let what = go_kind(other);
                let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
                let into = match schema::lookup(group, version, kind) {
                    Some(_) => format!("Go struct field {kind}.metadata"),
                    None => "Go value".into(),
                };
                return Err(ApiError::bad_request(format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: json: cannot unmarshal {what} into {into} of type v1.ObjectMeta"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_no_objects_are_errors() {
        for text in [
            "",
            "{",
            "[]",
            "5",
            "\"x\"",
            "{\"a\":}",
            "{\"kind\":5}",
            "{\"apiVersion\":[]}",
            "\u{0}\u{1}",
        ] {
            let e = object(&Bytes::from(text), Media::Json, "Pod").unwrap_err();
            assert_eq!(e.code, 400, "{text}");
            assert!(
                e.message
                    .starts_with("the object provided is unrecognized (must be of type Pod)")
            );
        }
        assert!(object(&Bytes::from("a: [1"), Media::Yaml, "Pod").is_err());
        let deep = "[".repeat(100_000);
        assert!(object(&Bytes::from(deep), Media::Json, "Pod").is_err());
    }

    /// Upstream's own round-trip data, where it lies beside the checkout.
    fn golden() -> Option<std::path::PathBuf> {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut beside = here
            .ancestors()
            .map(|a| a.join("shared/data/kubernetes-golden"));
        beside.find(|p| p.is_dir())
    }

    #[test]
    fn golden_yaml_is_read_and_written_as_upstream_writes_it() {
        let Some(folder) = golden() else {
            eprintln!("SKIPPED: no ../shared/data/kubernetes-golden");
            return;
        };
        let (mut seen, mut wrong) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&path).expect("yaml");
            let json = std::fs::read(path.with_extension("json")).expect("json");
            let json: Value = serde_json::from_slice(&json).expect("json");
            let read = object(&Bytes::from(text.clone()), Media::Yaml, "X");
            if read.as_ref().ok() != Some(&json) {
                wrong.push(format!("{} reads otherwise: {read:?}", path.display()));
            }
            let written = crate::response::encode(&json, Media::Yaml, false).expect("yaml");
            let written = String::from_utf8_lossy(&written);
            let differs = written.lines().zip(text.lines()).find(|(a, b)| a != b);
            if differs.is_some() || written.len() != text.len() {
                wrong.push(format!(
                    "{} is written otherwise: {differs:?}",
                    path.display()
                ));
            }
        }
        assert!(seen > 150, "{seen}");
        assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn whole_numbers_are_those_that_go_writes_and_reads() {
        for (text, large, stored) in [
            ("2.0", "2.0", "2"),
            ("-0.0", "-0.0", "0"),
            ("1e18", "1e+18", "1000000000000000000"),
            (
                "1234567890123456789e0",
                "1.2345678901234568e+18",
                "1234567890123456800",
            ),
            (
                "9223372036854775807",
                "9223372036854775807",
                "9223372036854775807",
            ),
            (
                "9223372036854775809",
                "9223372036854776000",
                "9223372036854776000",
            ),
            ("1e19", "10000000000000000000", "10000000000000000000"),
            (
                "12345678901234567890",
                "12345678901234567000",
                "12345678901234567000",
            ),
            (
                "18446744073709551615",
                "1.8446744073709552e+19",
                "1.8446744073709552e+19",
            ),
            (
                "-9223372036854775809",
                "-9.223372036854776e+18",
                "-9.223372036854776e+18",
            ),
            ("1e21", "1e+21", "1e+21"),
            (
                "123456789012345680000",
                "1.2345678901234568e+20",
                "1.2345678901234568e+20",
            ),
            ("0.5", "0.5", "0.5"),
        ] {
            let mut value: Value = serde_json::from_str(text).expect("a number");
            large_numbers(&mut value);
            assert_eq!(value.to_string(), large, "{text}");
            whole_numbers(&mut value);
            assert_eq!(value.to_string(), stored, "{text}");
            let again: Value = serde_json::from_str(stored).expect("a number");
            assert_eq!(value, again, "{text}");
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let mut v = serde_json::json!({"kind": "Pod", "apiVersion": "v1"});
        let e = check_kind(&mut v, "apps/v1", "Deployment").unwrap_err();
        assert!(
            e.message
                .starts_with("Pod in version \"v1\" cannot be handled as a Deployment")
        );
        let mut v = serde_json::json!({"kind": "Pod", "apiVersion": "v2"});
        let e = check_kind(&mut v, "v1", "Pod").unwrap_err();
        assert_eq!(
            e.message,
            "the API version in the data (v2) does not match the expected API version (v1)"
        );
    }
}
