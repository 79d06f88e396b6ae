//! Protobuf to JSON. Zero values of fields that are no pointers are left out, as Go's `omitempty` does.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::wire::{Payload, Reader};
use super::{MAGIC, ProtobufError, split};
use crate::limits;
use crate::schema::{self, Field, Message, Schema, Type};

/// An object from its envelope.
pub fn decode(data: &[u8]) -> Result<Value, ProtobufError> {
    decode_at(data, 0)
}

fn decode_at(data: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    if data.is_empty() {
        return Err(ProtobufError::new("empty data"));
    }
    let Some(data) = data.strip_prefix(MAGIC) else {
        return Err(ProtobufError::new(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    if data.is_empty() {
        return Err(ProtobufError::new("empty body"));
    }
    let (mut api_version, mut kind, mut raw, mut content): (&[u8], &[u8], &[u8], &[u8]) =
        (b"", b"", b"", b"");
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        match (number, payload) {
            (1, Payload::Bytes(meta)) => {
                let mut reader = Reader::new(meta);
                while let Some((number, payload)) = reader.field()? {
                    match (number, payload) {
                        (1, Payload::Bytes(b)) => api_version = b,
                        (2, Payload::Bytes(b)) => kind = b,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(b)) => raw = b,
            (4, Payload::Bytes(b)) => content = b,
            _ => {}
        }
    }
    let (api_version, kind) = (utf8(api_version)?, utf8(kind)?);
    if content == b"application/json" {
        return serde_json::from_slice(raw).map_err(|e| ProtobufError(e.to_string()));
    }
    let (group, version) = split(api_version);
    let Some(message) = schema::of_kind(group, version, kind) else {
        return Err(ProtobufError(format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )));
    };
    let mut out = Map::new();
    fields(message, raw, &mut out, depth)?;
    out.insert("apiVersion".into(), api_version.into());
    out.insert("kind".into(), kind.into());
    Ok(Value::Object(out))
}

fn utf8(data: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(data).map_err(|_| ProtobufError::new("proto: field contains invalid UTF-8"))
}

fn fields(
    m: &Message,
    data: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > limits::PROTOBUF_DEPTH {
        return Err(ProtobufError::new("proto: nested too deeply"));
    }
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        // Fields of newer versions are dropped.
        let Some(field) = m.field_by_number(number) else {
            continue;
        };
        if field.inline {
            if let (Some(below), Payload::Bytes(data)) = (field.schema.message(), payload) {
                fields(below, data, out, depth + 1)?;
            }
            continue;
        }
        one(field, payload, out, depth)
            .map_err(|e| ProtobufError(format!("{}: {}", field.name, e.0)))?;
    }
    // Go has no value for what is not there but zero, and writes it where nothing says to leave it out.
    let scalar = |f: &Field| {
        matches!(
            f.schema.kind,
            Type::String | Type::Bool | Type::Int32 | Type::Int64
        )
    };
    for field in m
        .fields
        .iter()
        .filter(|f| f.always && !f.pointer && scalar(f))
    {
        out.entry(field.name).or_insert_with(|| zero(&field.schema));
    }
    Ok(())
}

fn one(
    field: &Field,
    payload: Payload<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match &field.schema.kind {
        Type::List(items) if !field.schema.wrapped => {
            let list = out
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else {
                return Ok(());
            };
            let numeric = matches!(items.kind, Type::Int32 | Type::Int64 | Type::Bool);
            if let (true, Payload::Bytes(packed)) = (numeric, payload) {
                let mut reader = Reader::new(packed);
                while !reader.is_empty() {
                    let n = reader.varint()?;
                    list.push(scalar(items, n));
                }
                return Ok(());
            }
            list.push(value(items, payload, depth)?);
        }
        Type::Map(values) => {
            let Payload::Bytes(entry) = payload else {
                return Err(ProtobufError::new("not a map entry"));
            };
            let (mut key, mut found) = ("", None);
            let mut reader = Reader::new(entry);
            while let Some((number, payload)) = reader.field()? {
                match (number, payload) {
                    (1, Payload::Bytes(b)) => key = utf8(b)?,
                    (2, payload) => found = Some(value(values, payload, depth)?),
                    _ => {}
                }
            }
            let map = out
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                let found = found.unwrap_or_else(|| zero(values));
                map.insert(key.to_string(), found);
            }
        }
        _ => {
            let v = value(&field.schema, payload, depth)?;
            if v.is_null() || (!field.pointer && !field.always && is_zero(&field.schema, &v)) {
                return Ok(());
            }
            out.insert(field.name.into(), v);
        }
    }
    Ok(())
}

fn zero(s: &Schema) -> Value {
    match &s.kind {
        Type::Bool => json!(false),
        Type::Int32 | Type::Int64 => json!(0),
        Type::List(_) => json!([]),
        Type::Message(_) => json!({}),
        _ => json!(""),
    }
}

/// Whether a scalar is what Go leaves out.
fn is_zero(s: &Schema, v: &Value) -> bool {
    match &s.kind {
        Type::String | Type::Bytes => v == "",
        Type::Bool => v == false,
        Type::Int32 | Type::Int64 => v == 0,
        Type::Double => v.as_f64() == Some(0.0),
        _ => false,
    }
}

fn scalar(s: &Schema, n: u64) -> Value {
    match &s.kind {
        Type::Bool => json!(n != 0),
        Type::Int32 => json!(n as i32),
        _ => json!(n as i64),
    }
}

fn value(s: &Schema, payload: Payload<'_>, depth: usize) -> Result<Value, ProtobufError> {
    match (&s.kind, payload) {
        (Type::Bool | Type::Int32 | Type::Int64, Payload::Varint(n)) => Ok(scalar(s, n)),
        (Type::Double, Payload::Fixed64(bits)) => Ok(json!(f64::from_bits(bits))),
        (Type::Double, Payload::Fixed32(bits)) => Ok(json!(f32::from_bits(bits))),
        (Type::String, Payload::Bytes(b)) => Ok(json!(utf8(b)?)),
        (Type::Bytes, Payload::Bytes(b)) => Ok(json!(BASE64_STANDARD.encode(b))),
        (_, Payload::Bytes(b)) => nested(s, b, depth + 1),
        _ => Err(ProtobufError::new("proto: wrong wireType")),
    }
}

/// Numbers and bytes of a small fixed message.
#[derive(Default)]
struct Small<'a> {
    numbers: [i64; 4],
    bytes: [Option<&'a [u8]>; 4],
}

fn small(data: &[u8]) -> Result<Small<'_>, ProtobufError> {
    let mut out = Small::default();
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        let at = number as usize;
        if at >= 4 {
            continue;
        }
        match payload {
            Payload::Varint(n) => out.numbers[at] = n as i64,
            Payload::Bytes(b) => out.bytes[at] = Some(b),
            _ => {}
        }
    }
    Ok(out)
}

fn nested(s: &Schema, data: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    match &s.kind {
        Type::Message(_) => {
            let mut out = Map::new();
            if let Some(m) = s.message() {
                fields(m, data, &mut out, depth)?;
            }
            Ok(Value::Object(out))
        }
        Type::List(_) => {
            let mut list = Vec::new();
            let mut reader = Reader::new(data);
            while let Some((number, payload)) = reader.field()? {
                if let (1, Payload::Bytes(b)) = (number, payload) {
                    list.push(json!(utf8(b)?));
                }
            }
            Ok(Value::Array(list))
        }
        Type::Quantity => Ok(json!(utf8(small(data)?.bytes[1].unwrap_or(b"0"))?)),
        Type::IntOrString => {
            let m = small(data)?;
            match m.numbers[1] {
                0 => Ok(json!(m.numbers[2] as i32)),
                _ => Ok(json!(utf8(m.bytes[3].unwrap_or(b""))?)),
            }
        }
        Type::Time | Type::MicroTime => {
            if data.is_empty() {
                return Ok(Value::Null);
            }
            let m = small(data)?;
            time(m.numbers[1], m.numbers[2], s.kind == Type::MicroTime)
        }
        Type::Duration => Ok(json!(crate::duration::text(small(data)?.numbers[1]))),
        Type::Raw => match small(data)?.bytes[1] {
            None | Some(b"") => Ok(Value::Null),
            Some(raw) if raw.starts_with(MAGIC) => decode_at(raw, depth),
            Some(raw) => serde_json::from_slice(raw).map_err(|e| ProtobufError(e.to_string())),
        },
        Type::FieldsV1 | Type::Json => match small(data)?.bytes[1] {
            None | Some(b"") => Ok(Value::Null),
            Some(raw) => serde_json::from_slice(raw).map_err(|e| ProtobufError(e.to_string())),
        },
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            schema_or(s, data, depth)
        }
        _ => Err(ProtobufError::new("proto: no such type")),
    }
}

/// One of the unions in a CRD's schema.
fn schema_or(s: &Schema, data: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let props = schema::json_schema_props();
    let (mut one, mut list, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(data);
    while let Some((number, payload)) = reader.field()? {
        let object = |b: &[u8]| {
            let mut out = Map::new();
            fields(props, b, &mut out, depth + 1).map(|()| Value::Object(out))
        };
        match (&s.kind, number, payload) {
            (Type::SchemaOrBool, 1, Payload::Varint(n)) => allows = n != 0,
            (Type::SchemaOrBool, 2, Payload::Bytes(b))
            | (Type::SchemaOrArray | Type::SchemaOrStrings, 1, Payload::Bytes(b)) => {
                one = Some(object(b)?);
            }
            (Type::SchemaOrArray, 2, Payload::Bytes(b)) => list.push(object(b)?),
            (Type::SchemaOrStrings, 2, Payload::Bytes(b)) => list.push(json!(utf8(b)?)),
            _ => {}
        }
    }
    Ok(match (one, &s.kind) {
        (Some(schema), _) => schema,
        (None, Type::SchemaOrBool) => json!(allows),
        (None, _) if list.is_empty() => Value::Null,
        (None, _) => Value::Array(list),
    })
}

fn time(seconds: i64, nanos: i64, micro: bool) -> Result<Value, ProtobufError> {
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::new("nanoseconds"))?;
    let t = jiff::Timestamp::new(seconds, nanos).map_err(|e| ProtobufError(e.to_string()))?;
    let form = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(json!(t.strftime(form).to_string()))
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_keep_their_microseconds() {
        for (seconds, nanos, micro, text) in [
            (
                1_767_225_600,
                123_456_000,
                true,
                "2026-01-01T00:00:00.123456Z",
            ),
            (1_767_225_600, 7_000, true, "2026-01-01T00:00:00.000007Z"),
            (1_767_225_600, 999_999_999, false, "2026-01-01T00:00:00Z"),
            (0, 0, true, "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(time(seconds, nanos, micro), Ok(text.into()));
        }
    }
}
