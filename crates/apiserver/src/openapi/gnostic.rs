//! The v2 document in the protobuf form that client-go asks for.
//! Upstream: google/gnostic-models openapiv2/OpenAPIv2.proto.

pub mod v3;

use api::protobuf::wire::{Wire, put_bytes, put_tag, put_varint};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Encodes a v2 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    text(&mut out, 1, document.get("swagger"));
    if let Some(info) = document.get("info") {
        nested(&mut out, 2, |out| {
            text(out, 1, info.get("title"));
            text(out, 2, info.get("version"));
        });
    }
    nested(&mut out, 8, |out| {
        for (name, value) in fields(document.get("paths")) {
            nested(out, 2, |out| {
                put_bytes(out, 1, name.as_bytes());
                nested(out, 2, |out| path_item(value, out));
            });
        }
    });
    nested(&mut out, 9, |out| {
        for (name, value) in fields(document.get("definitions")) {
            named_schema(out, 1, name, value);
        }
    });
    out
}

fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn nested(out: &mut Vec<u8>, number: u32, f: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    f(&mut inner);
    put_bytes(out, number, &inner);
}

fn text(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if let Some(s) = value.and_then(Value::as_str) {
        put_bytes(out, number, s.as_bytes());
    }
}

fn flag(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if value == Some(&Value::Bool(true)) {
        put_tag(out, number, Wire::Varint);
        put_varint(out, 1);
    }
}

fn texts(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        text(out, number, Some(item));
    }
}

fn double(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if let Some(n) = value.and_then(Value::as_f64) {
        put_tag(out, number, Wire::Fixed64);
        out.extend_from_slice(&n.to_bits().to_le_bytes());
    }
}

fn whole(out: &mut Vec<u8>, number: u32, value: Option<&Value>) {
    if let Some(n) = value.and_then(Value::as_u64) {
        put_tag(out, number, Wire::Varint);
        put_varint(out, n);
    }
}

/// An `Any`: its YAML, which JSON is.
fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| {
        put_bytes(out, 2, format!("{value}\n").as_bytes())
    });
}

fn extensions(out: &mut Vec<u8>, number: u32, map: &Fields) {
    for (name, value) in map.iter().filter(|(k, _)| k.starts_with("x-")) {
        nested(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    for (method, number) in [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("patch", 8),
    ] {
        if let Some(Value::Object(op)) = value.get(method) {
            nested(out, number, |out| operation(op, out));
        }
    }
}

fn operation(op: &Fields, out: &mut Vec<u8>) {
    text(out, 5, op.get("operationId"));
    texts(out, 6, op.get("produces"));
    texts(out, 7, op.get("consumes"));
    let parameters = op.get("parameters").and_then(Value::as_array);
    for p in parameters
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
    {
        nested(out, 8, |out| nested(out, 1, |out| parameter(p, out)));
    }
    nested(out, 9, |out| {
        for (code, response) in fields(op.get("responses")) {
            nested(out, 1, |out| {
                put_bytes(out, 1, code.as_bytes());
                nested(out, 2, |out| {
                    nested(out, 1, |out| {
                        text(out, 1, response.get("description"));
                        if let Some(s) = response.get("schema") {
                            nested(out, 2, |out| nested(out, 1, |out| schema(s, out)));
                        }
                    });
                });
            });
        }
    });
    texts(out, 10, op.get("schemes"));
    extensions(out, 13, op);
}

/// A parameter of the body or of the query.
fn parameter(p: &Fields, out: &mut Vec<u8>) {
    if p.get("in").is_some_and(|v| v == "body") {
        nested(out, 1, |out| {
            text(out, 2, p.get("name"));
            text(out, 3, p.get("in"));
            flag(out, 4, p.get("required"));
            if let Some(s) = p.get("schema") {
                nested(out, 5, |out| schema(s, out));
            }
        });
        return;
    }
    nested(out, 2, |out| {
        nested(out, 3, |out| {
            text(out, 2, p.get("in"));
            text(out, 4, p.get("name"));
            text(out, 6, p.get("type"));
            flag(out, 20, p.get("uniqueItems"));
        });
    });
}

fn named_schema(out: &mut Vec<u8>, number: u32, name: &str, value: &Value) {
    nested(out, number, |out| {
        put_bytes(out, 1, name.as_bytes());
        nested(out, 2, |out| schema(value, out));
    });
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    let Some(map) = value.as_object() else { return };
    text(out, 1, map.get("$ref"));
    text(out, 2, map.get("format"));
    text(out, 3, map.get("title"));
    text(out, 4, map.get("description"));
    if let Some(v) = map.get("default") {
        any(out, 5, v);
    }
    double(out, 6, map.get("multipleOf"));
    double(out, 7, map.get("maximum"));
    flag(out, 8, map.get("exclusiveMaximum"));
    double(out, 9, map.get("minimum"));
    flag(out, 10, map.get("exclusiveMinimum"));
    for (name, number) in [
        ("maxLength", 11),
        ("minLength", 12),
        ("maxItems", 14),
        ("minItems", 15),
        ("maxProperties", 17),
        ("minProperties", 18),
    ] {
        whole(out, number, map.get(name));
    }
    text(out, 13, map.get("pattern"));
    flag(out, 16, map.get("uniqueItems"));
    texts(out, 19, map.get("required"));
    for v in map
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        any(out, 20, v);
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(b)) => nested(out, 21, |out| {
            put_tag(out, 2, Wire::Varint);
            put_varint(out, u64::from(*b));
        }),
        Some(below) => nested(out, 21, |out| nested(out, 1, |out| schema(below, out))),
        None => {}
    }
    if let Some(kind) = map.get("type") {
        nested(out, 22, |out| text(out, 1, Some(kind)));
    }
    if let Some(items) = map.get("items") {
        nested(out, 23, |out| nested(out, 1, |out| schema(items, out)));
    }
    if map.contains_key("properties") {
        nested(out, 25, |out| {
            for (name, value) in fields(map.get("properties")) {
                named_schema(out, 1, name, value);
            }
        });
    }
    extensions(out, 31, map);
}
