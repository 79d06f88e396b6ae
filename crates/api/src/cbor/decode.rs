//! CBOR to JSON values: what upstream's codec makes of it when it decodes into an `interface{}`.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::head::{Head, Input, Major};
use super::{CborError, wellformed};

const TAG_TEXT_TIME: u64 = 0;
const TAG_EPOCH_TIME: u64 = 1;

/// How byte strings below a tag are shown as texts.
#[derive(Clone, Copy)]
enum Later {
    Base64Url,
    Base64,
    Base16,
}

/// Decodes bytes that must be exactly one data item.
pub fn decode(data: &[u8]) -> Result<Value, CborError> {
    let (value, used) = decode_first(data)?;
    if used < data.len() {
        let rest = data.len() - used;
        return Err(CborError(format!(
            "cbor: {rest} bytes of extraneous data starting at index {used}"
        )));
    }
    Ok(value)
}

/// Decodes the first data item of a sequence, and gives its length.
pub fn decode_first(data: &[u8]) -> Result<(Value, usize), CborError> {
    if data.is_empty() {
        return Err(CborError::new("EOF"));
    }
    let mut input = Input { data, at: 0 };
    wellformed::item(&mut input, 0)?;
    let used = input.at;
    input.at = 0;
    Ok((item(&mut input, None)?, used))
}

/// The float that a primitive holds, if it is one.
pub(super) fn float(head: Head) -> Option<f64> {
    match head.info {
        25 => Some(half(u16::try_from(head.argument).ok()?)),
        26 => Some(f32::from_bits(u32::try_from(head.argument).ok()?).into()),
        27 => Some(f64::from_bits(head.argument)),
        _ => None,
    }
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(i32::from(e) - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

fn item(input: &mut Input<'_>, later: Option<Later>) -> Result<Value, CborError> {
    let head = input.head()?;
    match head.major {
        Major::Positive => i64::try_from(head.argument)
            .map(Value::from)
            .map_err(|_| overflows(head.major, &head.argument.to_string(), "int64")),
        Major::Negative => i64::try_from(head.argument)
            .map(|n| Value::from(-1 - n))
            .map_err(|_| {
                let n = -1 - i128::from(head.argument);
                overflows(head.major, &n.to_string(), "int64")
            }),
        Major::Bytes | Major::Text => string(input, head, later).map(Value::String),
        Major::Array => array(input, head, later),
        Major::Map => map(input, head, later),
        Major::Tag => tagged(input, head.argument, later),
        Major::Primitive => primitive(head),
    }
}

fn overflows(kind: Major, number: &str, into: &str) -> CborError {
    let kind = kind.name();
    CborError(format!(
        "cbor: cannot unmarshal {kind} into Go value of type {into} ({number} overflows Go's int64)"
    ))
}

fn primitive(head: Head) -> Result<Value, CborError> {
    if let Some(f) = float(head) {
        return Ok(Number::from_f64(f).map_or(Value::Null, Value::Number));
    }
    match head.argument {
        20 => Ok(Value::Bool(false)),
        21 => Ok(Value::Bool(true)),
        22 => Ok(Value::Null),
        other => {
            let what = format!("simple value {other} is not recognized");
            Err(CborError::unacceptable(head.major, &what))
        }
    }
}

/// The bytes of a string, its chunks joined.
fn raw(input: &mut Input<'_>, head: Head) -> Result<Vec<u8>, CborError> {
    if !head.is_indefinite() {
        let length = usize::try_from(head.argument).unwrap_or(usize::MAX);
        return input.take(length).map(<[u8]>::to_vec);
    }
    let mut all = Vec::new();
    while !input.found_break()? {
        let chunk = input.head()?;
        let length = usize::try_from(chunk.argument).unwrap_or(usize::MAX);
        let chunk = input.take(length)?;
        if head.major == Major::Text && std::str::from_utf8(chunk).is_err() {
            return Err(CborError::new("cbor: invalid UTF-8 string"));
        }
        all.extend_from_slice(chunk);
    }
    Ok(all)
}

fn string(input: &mut Input<'_>, head: Head, later: Option<Later>) -> Result<String, CborError> {
    let bytes = raw(input, head)?;
    match (head.major, later) {
        (Major::Text, _) => {
            String::from_utf8(bytes).map_err(|_| CborError::new("cbor: invalid UTF-8 string"))
        }
        // Go's strings hold any bytes; its JSON shows what is no UTF-8 with this replacement.
        (_, None) => Ok(String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())),
        (_, Some(Later::Base64)) => Ok(BASE64_STANDARD.encode(bytes)),
        (_, Some(Later::Base64Url)) => Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes)),
        (_, Some(Later::Base16)) => Ok(bytes.iter().map(|b| format!("{b:02x}")).collect()),
    }
}

/// Calls `one` for each element of a container, with its index.
fn each(
    input: &mut Input<'_>,
    head: Head,
    mut one: impl FnMut(&mut Input<'_>, u64) -> Result<(), CborError>,
) -> Result<(), CborError> {
    let mut index = 0;
    loop {
        let done = match head.is_indefinite() {
            true => input.found_break()?,
            false => index == head.argument,
        };
        if done {
            return Ok(());
        }
        one(input, index)?;
        index += 1;
    }
}

fn array(input: &mut Input<'_>, head: Head, later: Option<Later>) -> Result<Value, CborError> {
    let mut out = Vec::new();
    each(input, head, |input, _| {
        out.push(item(input, later)?);
        Ok(())
    })?;
    Ok(Value::Array(out))
}

fn map(input: &mut Input<'_>, head: Head, later: Option<Later>) -> Result<Value, CborError> {
    let mut out = Map::new();
    each(input, head, |input, index| {
        let key = key(input, later)?;
        let value = item(input, later)?;
        if out.contains_key(&key) {
            return Err(CborError(format!(
                "cbor: found duplicate map key {key:?} at map element index {index}"
            )));
        }
        out.insert(key, value);
        Ok(())
    })?;
    Ok(Value::Object(out))
}

/// A key, which must be a string of either kind.
fn key(input: &mut Input<'_>, later: Option<Later>) -> Result<String, CborError> {
    let head = input.head()?;
    match head.major {
        Major::Bytes | Major::Text => string(input, head, later),
        Major::Tag => match tagged(input, head.argument, later)? {
            Value::String(text) => Ok(text),
            _ => Err(not_a_key(Major::Tag)),
        },
        other => Err(not_a_key(other)),
    }
}

fn not_a_key(kind: Major) -> CborError {
    let kind = kind.name();
    CborError(format!(
        "cbor: cannot unmarshal {kind} into Go value of type string"
    ))
}

fn tagged(input: &mut Input<'_>, number: u64, later: Option<Later>) -> Result<Value, CborError> {
    match number {
        TAG_TEXT_TIME | TAG_EPOCH_TIME => time(input, number),
        21 => item(input, Some(Later::Base64Url)),
        22 => item(input, Some(Later::Base64)),
        23 => item(input, Some(Later::Base16)),
        // What other tags mean is not known here, or nothing (55799): their content stands alone.
        _ => item(input, later),
    }
}

/// A time as text: RFC 3339 as it was sent, or made of seconds since 1970.
fn time(input: &mut Input<'_>, number: u64) -> Result<Value, CborError> {
    let head = input.head()?;
    let kind = head.major.name();
    let must = |what: &str| {
        CborError(format!(
            "cbor: tag number {number} must be followed by {what}, got {kind}"
        ))
    };
    let unshown = |why: &dyn std::fmt::Display| {
        CborError(format!(
            "cbor: decoded time cannot be represented in RFC3339 format with sub-second precision: {why}"
        ))
    };
    if number == TAG_TEXT_TIME {
        if head.major != Major::Text {
            return Err(must("text string"));
        }
        let text = string(input, head, None)?;
        let valid = text.contains('T') && text.parse::<Timestamp>().is_ok();
        return match valid {
            true => Ok(Value::String(text)),
            false => Err(CborError(format!(
                "cbor: cannot set {text} for time.Time: parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?}"
            ))),
        };
    }
    let at = match (head.major, float(head)) {
        (Major::Positive, _) => i64::try_from(head.argument)
            .map_err(|_| overflows(head.major, &head.argument.to_string(), "time.Time"))
            .and_then(|n| Timestamp::from_second(n).map_err(|e| unshown(&e)))?,
        (Major::Negative, _) => i64::try_from(head.argument)
            .map_err(|_| {
                let n = -1 - i128::from(head.argument);
                overflows(head.major, &n.to_string(), "time.Time")
            })
            .and_then(|n| Timestamp::from_second(-1 - n).map_err(|e| unshown(&e)))?,
        (_, Some(seconds)) => jiff::SignedDuration::try_from_secs_f64(seconds)
            .and_then(Timestamp::from_duration)
            .map_err(|e| unshown(&e))?,
        _ => return Err(must("integer or floating-point number")),
    };
    Ok(Value::String(at.to_string()))
}
