//! JSON to protobuf. Fields are written in the order of their numbers, as Go's encoders do.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::wire::{Wire, put_bytes, put_nested, put_tag, put_varint};
use super::{MAGIC, ProtobufError, split, type_meta};
use crate::schema::{self, Field, Message, Schema, Type};

type Written = Result<(), ProtobufError>;

/// An object of a built-in kind with its envelope; `apiVersion` and `kind` tell which.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let (api_version, kind) = type_meta(object);
    let (group, version) = split(api_version);
    let message = schema::of_kind(group, version, kind)
        .ok_or_else(|| ProtobufError(format!("{kind} in {api_version} has no protobuf form")))?;
    let mut raw = Vec::with_capacity(512);
    let fields = object
        .as_object()
        .ok_or_else(|| ProtobufError::new("not an object"))?;
    message_fields(message, fields, &mut raw)?;
    Ok(envelope(api_version, kind, &raw))
}

/// Puts an encoded message into its envelope.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 64);
    out.extend_from_slice(MAGIC);
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// One event of a watch stream: its length in four bytes, then a bare WatchEvent.
pub fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(object.len() + 32);
    put_bytes(&mut event, 1, kind.as_bytes());
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    put_bytes(&mut event, 2, &raw);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out
}

pub(super) fn message_fields(
    m: &Message,
    fields: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Written {
    for field in m.by_number() {
        if field.inline {
            let Some(below) = field.schema.message() else {
                continue;
            };
            put_nested(out, field.number, |out| message_fields(below, fields, out))?;
            continue;
        }
        match fields.get(field.name) {
            None | Some(Value::Null) => absent(field, out)?,
            Some(value) => one(field, value, out)?,
        }
    }
    Ok(())
}

/// What Go writes for a field that is not a pointer and has its zero value.
fn absent(field: &Field, out: &mut Vec<u8>) -> Written {
    if field.pointer {
        return Ok(());
    }
    match field.schema.kind {
        Type::String => put_bytes(out, field.number, b""),
        Type::Bool | Type::Int32 | Type::Int64 => {
            put_tag(out, field.number, Wire::Varint);
            put_varint(out, 0);
        }
        _ => {}
    }
    Ok(())
}

fn one(field: &Field, value: &Value, out: &mut Vec<u8>) -> Written {
    let at = |e: ProtobufError| ProtobufError(format!("{}: {}", field.name, e.0));
    match &field.schema.kind {
        Type::List(items) if !field.schema.wrapped => {
            let list = value
                .as_array()
                .ok_or_else(|| ProtobufError(format!("{}: not a list", field.name)))?;
            for item in list {
                put(items, field.number, item, out).map_err(at)?;
            }
            Ok(())
        }
        Type::Map(values) => {
            let map = value
                .as_object()
                .ok_or_else(|| ProtobufError(format!("{}: not a map", field.name)))?;
            for (key, value) in map {
                put_nested(out, field.number, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    put(values, 2, value, out)
                })
                .map_err(at)?;
            }
            Ok(())
        }
        _ => put(&field.schema, field.number, value, out).map_err(at),
    }
}

fn text(value: &Value) -> Result<&str, ProtobufError> {
    match value {
        Value::Null => Ok(""),
        other => other
            .as_str()
            .ok_or_else(|| ProtobufError::new("not a string")),
    }
}

fn integer(value: &Value) -> Result<i64, ProtobufError> {
    match value {
        Value::Null => Ok(0),
        other => other
            .as_i64()
            .or_else(|| other.as_u64().map(|n| n as i64))
            .or_else(|| other.as_f64().map(|n| n as i64))
            .ok_or_else(|| ProtobufError::new("not an integer")),
    }
}

/// Writes one value under a field number.
pub(super) fn put(s: &Schema, number: u32, value: &Value, out: &mut Vec<u8>) -> Written {
    match &s.kind {
        Type::String => put_bytes(out, number, text(value)?.as_bytes()),
        Type::Bool => {
            put_tag(out, number, Wire::Varint);
            put_varint(out, u64::from(value.as_bool().unwrap_or(false)));
        }
        Type::Int32 | Type::Int64 => {
            put_tag(out, number, Wire::Varint);
            put_varint(out, integer(value)? as u64);
        }
        Type::Double => {
            put_tag(out, number, Wire::Fixed64);
            let n = value
                .as_f64()
                .ok_or_else(|| ProtobufError::new("not a number"))?;
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
        Type::Bytes => {
            let data = BASE64_STANDARD
                .decode(text(value)?)
                .map_err(|e| ProtobufError(e.to_string()))?;
            put_bytes(out, number, &data);
        }
        Type::List(_) => {
            // A message that only wraps a list.
            return put_nested(out, number, |out| {
                for item in value.as_array().into_iter().flatten() {
                    put_bytes(out, 1, text(item)?.as_bytes());
                }
                Ok(())
            });
        }
        Type::Map(_) => return Err(ProtobufError::new("a map inside a list or map")),
        _ => return put_nested(out, number, |out| nested(s, value, out)),
    }
    Ok(())
}

/// The inside of a value that is a message on the wire.
fn nested(s: &Schema, value: &Value, out: &mut Vec<u8>) -> Written {
    match &s.kind {
        Type::Message(_) => {
            if let (Some(m), Some(fields)) = (s.message(), value.as_object()) {
                message_fields(m, fields, out)?;
            } else if !value.is_null() {
                return Err(ProtobufError::new("not an object"));
            }
        }
        Type::Quantity => match value {
            Value::String(s) => put_bytes(out, 1, s.as_bytes()),
            other => put_bytes(out, 1, other.to_string().as_bytes()),
        },
        Type::IntOrString => {
            let (kind, number, text) = match value {
                Value::String(s) => (1, 0, s.as_str()),
                other => (0, integer(other)?, ""),
            };
            put_tag(out, 1, Wire::Varint);
            put_varint(out, kind);
            put_tag(out, 2, Wire::Varint);
            put_varint(out, number as u64);
            put_bytes(out, 3, text.as_bytes());
        }
        Type::Time | Type::MicroTime => time(text(value)?, out)?,
        Type::Duration => {
            put_tag(out, 1, Wire::Varint);
            put_varint(
                out,
                crate::duration::nanoseconds(text(value)?).map_err(ProtobufError)? as u64,
            );
        }
        Type::Raw => {
            if !value.is_null() {
                put_bytes(out, 1, &raw(value));
            }
        }
        Type::FieldsV1 | Type::Json => put_bytes(out, 1, value.to_string().as_bytes()),
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            schema_or(s, value, out)?;
        }
        _ => return Err(ProtobufError::new("no protobuf form")),
    }
    Ok(())
}

/// An embedded object: as JSON, which every decoder takes.
fn raw(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// One of the unions in a CRD's schema.
fn schema_or(s: &Schema, value: &Value, out: &mut Vec<u8>) -> Written {
    let props = schema::json_schema_props();
    let nested_props = |number: u32, fields: &Map<String, Value>, out: &mut Vec<u8>| {
        put_nested(out, number, |out| message_fields(props, fields, out))
    };
    match (&s.kind, value) {
        (Type::SchemaOrArray | Type::SchemaOrStrings, Value::Object(fields)) => {
            nested_props(1, fields, out)
        }
        (Type::SchemaOrArray, Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_object)
            .try_for_each(|fields| nested_props(2, fields, out)),
        (Type::SchemaOrStrings, Value::Array(list)) => {
            for item in list {
                put_bytes(out, 2, text(item)?.as_bytes());
            }
            Ok(())
        }
        (Type::SchemaOrBool, Value::Bool(allows)) => {
            put_tag(out, 1, Wire::Varint);
            put_varint(out, u64::from(*allows));
            Ok(())
        }
        (Type::SchemaOrBool, Value::Object(fields)) => {
            put_tag(out, 1, Wire::Varint);
            put_varint(out, 1);
            nested_props(2, fields, out)
        }
        _ => Err(ProtobufError::new("not a schema")),
    }
}

fn time(text: &str, out: &mut Vec<u8>) -> Written {
    if text.is_empty() {
        return Ok(());
    }
    let t: jiff::Timestamp = text
        .parse()
        .map_err(|e: jiff::Error| ProtobufError(e.to_string()))?;
    let whole = t.as_second() - i64::from(t.subsec_nanosecond() < 0);
    let nanos = t.as_nanosecond() - i128::from(whole) * 1_000_000_000;
    put_tag(out, 1, Wire::Varint);
    put_varint(out, whole as u64);
    put_tag(out, 2, Wire::Varint);
    put_varint(out, nanos as u64);
    Ok(())
}
