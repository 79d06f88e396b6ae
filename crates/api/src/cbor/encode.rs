//! JSON values to CBOR. The schema table tells byte fields and floats from strings and integers; what it does
//! not know (custom resources, embedded objects) is encoded by its JSON type, as upstream encodes `Unstructured`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};

use super::MAGIC;
use crate::schema::{self, Message, Schema, Type};

/// In which order the keys of maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Equal values give equal bytes: RFC 8949's core deterministic encoding.
    Deterministic,
    /// As they come: what responses are written in.
    Any,
}

/// An object with the self-described tag; `apiVersion` and `kind` tell its schema, if it has one.
pub fn encode(object: &Value, order: Order) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    encode_into(object, order, &mut out);
    out
}

fn encode_into(object: &Value, order: Order, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    untagged(object, order, out);
}

fn untagged(object: &Value, order: Order, out: &mut Vec<u8>) {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let (version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let message = schema::of_kind(group, version, kind);
    match (message, object) {
        (Some(message), Value::Object(fields)) => {
            map(fields, order, out, |name| At::field(message, name));
        }
        _ => put(object, At::Nothing, order, out),
    }
}

/// One event of a watch stream: a WatchEvent whose object is encoded as it would be alone.
pub fn watch_frame(kind: &str, object: &Value, order: Order) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(MAGIC);
    head(5, 2, &mut out);
    for text in ["type", kind, "object"] {
        bytes(text.as_bytes(), &mut out);
    }
    encode_into(object, order, &mut out);
    out
}

/// A list of a known length that is written item by item. Upstream: the streaming encoder of collections.
pub struct List<'a> {
    pub kind: &'a str,
    pub api_version: &'a str,
    pub metadata: &'a Value,
    pub length: usize,
}

impl List<'_> {
    /// What stands before the items.
    pub fn head(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        head(5, 4, &mut out);
        for text in ["kind", self.kind, "items"] {
            bytes(text.as_bytes(), &mut out);
        }
        head(4, self.length as u64, &mut out);
        out
    }

    /// One item.
    pub fn item(item: &Value, order: Order, out: &mut Vec<u8>) {
        untagged(item, order, out);
    }

    /// What stands behind the items.
    pub fn tail(&self, order: Order) -> Vec<u8> {
        let mut out = Vec::new();
        bytes(b"metadata", &mut out);
        put(self.metadata, At::Nothing, order, &mut out);
        for text in ["apiVersion", self.api_version] {
            bytes(text.as_bytes(), &mut out);
        }
        out
    }
}

/// What is known of a value's type.
#[derive(Clone, Copy)]
enum At<'a> {
    Nothing,
    Schema(&'a Schema),
    Message(&'a Message),
}

impl<'a> At<'a> {
    fn of(schema: Option<&'a Schema>) -> Self {
        schema.map_or(Self::Nothing, Self::Schema)
    }

    fn field(message: &Message, name: &str) -> At<'static> {
        At::of(message.field(name).map(|f| &f.schema))
    }
}

fn put(value: &Value, at: At<'_>, order: Order, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(b) => out.push(0xf4 + u8::from(*b)),
        Value::Number(n) => number(n, at, out),
        Value::String(s) => string(s, at, out),
        Value::Array(list) => {
            head(4, list.len() as u64, out);
            for item in list {
                put(item, of_item(at), order, out);
            }
        }
        Value::Object(fields) => map(fields, order, out, |name| of_field(at, name)),
    }
}

fn of_item(at: At<'_>) -> At<'_> {
    match at {
        At::Schema(s) => match &s.kind {
            Type::List(items) => At::Schema(items),
            Type::SchemaOrArray => At::Message(schema::json_schema_props()),
            _ => At::Nothing,
        },
        _ => At::Nothing,
    }
}

fn of_field<'a>(at: At<'a>, name: &str) -> At<'a> {
    match at {
        At::Message(m) => At::field(m, name),
        At::Schema(s) => match s.kind {
            Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
                At::field(schema::json_schema_props(), name)
            }
            _ => At::of(s.field(name)),
        },
        _ => At::Nothing,
    }
}

fn map<'a>(
    fields: &Map<String, Value>,
    order: Order,
    out: &mut Vec<u8>,
    of: impl Fn(&str) -> At<'a>,
) {
    head(5, fields.len() as u64, out);
    let mut all: Vec<(&String, &Value)> = fields.iter().collect();
    if order == Order::Deterministic {
        // Bytewise of the encoded keys: the shorter ones first.
        all.sort_by_key(|(key, _)| (key.len(), key.as_bytes()));
    }
    for (key, value) in all {
        bytes(key.as_bytes(), out);
        put(value, of(key), order, out);
    }
}

fn is(at: At<'_>, kind: &Type) -> bool {
    matches!(at, At::Schema(s) if s.kind == *kind)
}

fn number(n: &Number, at: At<'_>, out: &mut Vec<u8>) {
    match (n.as_u64(), n.as_i64()) {
        _ if is(at, &Type::Double) => float(n.as_f64().unwrap_or_default(), out),
        (Some(n), _) => head(0, n, out),
        (None, Some(n)) => head(1, n.unsigned_abs() - 1, out),
        (None, None) => float(n.as_f64().unwrap_or_default(), out),
    }
}

/// A string is a byte string: nothing vouches for its UTF-8. What stands for bytes is those bytes, and the tag
/// says that base64 is expected of them later.
fn string(text: &str, at: At<'_>, out: &mut Vec<u8>) {
    if is(at, &Type::Bytes)
        && let Ok(data) = BASE64_STANDARD.decode(text)
    {
        head(6, 22, out);
        return bytes(&data, out);
    }
    bytes(text.as_bytes(), out);
}

fn bytes(data: &[u8], out: &mut Vec<u8>) {
    head(2, data.len() as u64, out);
    out.extend_from_slice(data);
}

/// The head of an item: its major type and argument, in as few bytes as can be.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let all = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | all[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, all[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&all[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&all[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&all);
        }
    }
}

/// A float in the shortest form that holds it.
fn float(f: f64, out: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation)] // Compared with the original below.
    let single = f as f32;
    if f64::from(single).to_bits() != f.to_bits() {
        out.push(0xfb);
        return out.extend_from_slice(&f.to_bits().to_be_bytes());
    }
    match half(single) {
        Some(bits) => {
            out.push(0xf9);
            out.extend_from_slice(&bits.to_be_bytes());
        }
        None => {
            out.push(0xfa);
            out.extend_from_slice(&single.to_bits().to_be_bytes());
        }
    }
}

/// The 16 bits of a float, if they hold it without loss.
fn half(f: f32) -> Option<u16> {
    let bits = f.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = i32::try_from(bits >> 23 & 0xff).ok()? - 127;
    let fraction = bits & 0x7f_ffff;
    let small = |n: u32| u16::try_from(n).ok();
    match exponent {
        -127 if fraction == 0 => Some(sign),
        -14..=15 if fraction & 0x1fff == 0 => {
            let exponent = u32::try_from(exponent + 15).ok()?;
            Some(sign | small(exponent << 10 | fraction >> 13)?)
        }
        // Below the smallest normal number: the leading one is written out.
        -24..=-15 => {
            let shift = u32::try_from(-1 - exponent).ok()?;
            let whole = fraction | 0x80_0000;
            let lost = whole & ((1 << shift) - 1);
            (lost == 0).then(|| small(whole >> shift).map(|n| sign | n))?
        }
        _ => None,
    }
}
