//! v3 documents in protobuf, by tables of their messages: any document's, also those of other servers.
//! Upstream: google/gnostic-models openapiv3/OpenAPIv3.proto.

use serde_json::Value;

use super::{any, double, extensions, fields, flag, nested, put_bytes, texts, whole};

/// How a field's value lies in its message.
enum Shape {
    Text,
    Flag,
    Double,
    Whole,
    Texts,
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// A message or a reference to one.
    Either(&'static Message),
    Eithers(&'static Message),
    /// A message whose first field holds the entries of a mapping.
    Named(&'static Shape),
    /// The same of strings in lists.
    NamedTexts,
    Paths,
    Responses,
    /// The schema of all items.
    Items,
    /// A schema, or whether there may be more.
    Additional,
    Default,
}

use Shape::{Any, Either, Eithers, Flag, Many, Named, One, Text, Texts, Whole};

/// A message: its fields by the names they have in JSON, in the order of their numbers.
struct Message {
    fields: &'static [(&'static str, u32, Shape)],
    /// The number of `x-…`.
    extensions: u32,
}

const fn message(fields: &'static [(&'static str, u32, Shape)], extensions: u32) -> Message {
    Message { fields, extensions }
}

static DOCUMENT: Message = message(
    &[
        ("openapi", 1, Text),
        ("info", 2, One(&INFO)),
        ("servers", 3, Many(&SERVER)),
        ("paths", 4, Shape::Paths),
        ("components", 5, One(&COMPONENTS)),
        ("security", 6, Many(&SECURITY_REQUIREMENT)),
        ("tags", 7, Many(&TAG)),
        ("externalDocs", 8, One(&EXTERNAL_DOCS)),
    ],
    9,
);
static INFO: Message = message(
    &[
        ("title", 1, Text),
        ("description", 2, Text),
        ("termsOfService", 3, Text),
        ("contact", 4, One(&CONTACT)),
        ("license", 5, One(&LICENSE)),
        ("version", 6, Text),
        ("summary", 8, Text),
    ],
    7,
);
static CONTACT: Message = message(
    &[("name", 1, Text), ("url", 2, Text), ("email", 3, Text)],
    4,
);
static LICENSE: Message = message(&[("name", 1, Text), ("url", 2, Text)], 3);
static EXTERNAL_DOCS: Message = message(&[("description", 1, Text), ("url", 2, Text)], 3);
static TAG: Message = message(
    &[
        ("name", 1, Text),
        ("description", 2, Text),
        ("externalDocs", 3, One(&EXTERNAL_DOCS)),
    ],
    4,
);
static SERVER: Message = message(
    &[
        ("url", 1, Text),
        ("description", 2, Text),
        ("variables", 3, Named(&One(&SERVER_VARIABLE))),
    ],
    4,
);
static SERVER_VARIABLE: Message = message(
    &[
        ("enum", 1, Texts),
        ("default", 2, Text),
        ("description", 3, Text),
    ],
    4,
);
static COMPONENTS: Message = message(
    &[
        ("schemas", 1, Named(&Either(&SCHEMA))),
        ("responses", 2, Named(&Either(&RESPONSE))),
        ("parameters", 3, Named(&Either(&PARAMETER))),
        ("examples", 4, Named(&Either(&EXAMPLE))),
        ("requestBodies", 5, Named(&Either(&REQUEST_BODY))),
        ("headers", 6, Named(&Either(&HEADER))),
        ("securitySchemes", 7, Named(&Either(&SECURITY_SCHEME))),
    ],
    10,
);
static SECURITY_REQUIREMENT: Message = message(&[("", 1, Shape::NamedTexts)], 0);
static SECURITY_SCHEME: Message = message(
    &[
        ("type", 1, Text),
        ("description", 2, Text),
        ("name", 3, Text),
        ("in", 4, Text),
        ("scheme", 5, Text),
        ("bearerFormat", 6, Text),
        ("flows", 7, One(&OAUTH_FLOWS)),
        ("openIdConnectUrl", 8, Text),
    ],
    9,
);
static OAUTH_FLOWS: Message = message(
    &[
        ("implicit", 1, One(&OAUTH_FLOW)),
        ("password", 2, One(&OAUTH_FLOW)),
        ("clientCredentials", 3, One(&OAUTH_FLOW)),
        ("authorizationCode", 4, One(&OAUTH_FLOW)),
    ],
    5,
);
static OAUTH_FLOW: Message = message(
    &[
        ("authorizationUrl", 1, Text),
        ("tokenUrl", 2, Text),
        ("refreshUrl", 3, Text),
        ("scopes", 4, Named(&Text)),
    ],
    5,
);
static PATH_ITEM: Message = message(
    &[
        ("$ref", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, One(&OPERATION)),
        ("put", 5, One(&OPERATION)),
        ("post", 6, One(&OPERATION)),
        ("delete", 7, One(&OPERATION)),
        ("options", 8, One(&OPERATION)),
        ("head", 9, One(&OPERATION)),
        ("patch", 10, One(&OPERATION)),
        ("trace", 11, One(&OPERATION)),
        ("servers", 12, Many(&SERVER)),
        ("parameters", 13, Eithers(&PARAMETER)),
    ],
    14,
);
static OPERATION: Message = message(
    &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("externalDocs", 4, One(&EXTERNAL_DOCS)),
        ("operationId", 5, Text),
        ("parameters", 6, Eithers(&PARAMETER)),
        ("requestBody", 7, Either(&REQUEST_BODY)),
        ("responses", 8, Shape::Responses),
        ("deprecated", 10, Flag),
        ("security", 11, Many(&SECURITY_REQUIREMENT)),
        ("servers", 12, Many(&SERVER)),
    ],
    13,
);
static PARAMETER: Message = message(
    &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("deprecated", 5, Flag),
        ("allowEmptyValue", 6, Flag),
        ("style", 7, Text),
        ("explode", 8, Flag),
        ("allowReserved", 9, Flag),
        ("schema", 10, Either(&SCHEMA)),
        ("example", 11, Any),
        ("examples", 12, Named(&Either(&EXAMPLE))),
        ("content", 13, Named(&One(&MEDIA_TYPE))),
    ],
    14,
);
static HEADER: Message = message(
    &[
        ("description", 1, Text),
        ("required", 2, Flag),
        ("deprecated", 3, Flag),
        ("allowEmptyValue", 4, Flag),
        ("style", 5, Text),
        ("explode", 6, Flag),
        ("allowReserved", 7, Flag),
        ("schema", 8, Either(&SCHEMA)),
        ("example", 9, Any),
        ("examples", 10, Named(&Either(&EXAMPLE))),
        ("content", 11, Named(&One(&MEDIA_TYPE))),
    ],
    12,
);
static REQUEST_BODY: Message = message(
    &[
        ("description", 1, Text),
        ("content", 2, Named(&One(&MEDIA_TYPE))),
        ("required", 3, Flag),
    ],
    4,
);
static RESPONSE: Message = message(
    &[
        ("description", 1, Text),
        ("headers", 2, Named(&Either(&HEADER))),
        ("content", 3, Named(&One(&MEDIA_TYPE))),
    ],
    5,
);
static MEDIA_TYPE: Message = message(
    &[
        ("schema", 1, Either(&SCHEMA)),
        ("example", 2, Any),
        ("examples", 3, Named(&Either(&EXAMPLE))),
    ],
    5,
);
static EXAMPLE: Message = message(
    &[
        ("summary", 1, Text),
        ("description", 2, Text),
        ("value", 3, Any),
        ("externalValue", 4, Text),
    ],
    5,
);
static REFERENCE: Message = message(
    &[
        ("$ref", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
    ],
    0,
);
static DISCRIMINATOR: Message = message(
    &[("propertyName", 1, Text), ("mapping", 2, Named(&Text))],
    3,
);
static SCHEMA: Message = message(
    &[
        ("nullable", 1, Flag),
        ("discriminator", 2, One(&DISCRIMINATOR)),
        ("readOnly", 3, Flag),
        ("writeOnly", 4, Flag),
        ("externalDocs", 6, One(&EXTERNAL_DOCS)),
        ("example", 7, Any),
        ("deprecated", 8, Flag),
        ("title", 9, Text),
        ("multipleOf", 10, Shape::Double),
        ("maximum", 11, Shape::Double),
        ("exclusiveMaximum", 12, Flag),
        ("minimum", 13, Shape::Double),
        ("exclusiveMinimum", 14, Flag),
        ("maxLength", 15, Whole),
        ("minLength", 16, Whole),
        ("pattern", 17, Text),
        ("maxItems", 18, Whole),
        ("minItems", 19, Whole),
        ("uniqueItems", 20, Flag),
        ("maxProperties", 21, Whole),
        ("minProperties", 22, Whole),
        ("required", 23, Texts),
        ("enum", 24, Shape::Anys),
        ("type", 25, Text),
        ("allOf", 26, Eithers(&SCHEMA)),
        ("oneOf", 27, Eithers(&SCHEMA)),
        ("anyOf", 28, Eithers(&SCHEMA)),
        ("not", 29, One(&SCHEMA)),
        ("items", 30, Shape::Items),
        ("properties", 31, Named(&Either(&SCHEMA))),
        ("additionalProperties", 32, Shape::Additional),
        ("default", 33, Shape::Default),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    36,
);

/// Encodes a v3 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 18);
    put_message(&mut out, &DOCUMENT, document);
    out
}

fn put_message(out: &mut Vec<u8>, message: &Message, value: &Value) {
    let Some(map) = value.as_object() else { return };
    for (name, number, shape) in message.fields {
        match map.get(*name) {
            // The mapping itself, not a field of it.
            None if name.is_empty() => put_entries(out, *number, shape, value),
            None => {}
            Some(value) => put(out, *number, shape, value),
        }
    }
    if message.extensions != 0 {
        extensions(out, message.extensions, map);
    }
}

fn either(out: &mut Vec<u8>, message: &Message, value: &Value) {
    match value.get("$ref") {
        Some(Value::String(_)) => nested(out, 2, |out| put_message(out, &REFERENCE, value)),
        _ => nested(out, 1, |out| put_message(out, message, value)),
    }
}

/// The entries of a mapping, under one number.
fn put_entries(out: &mut Vec<u8>, number: u32, shape: &Shape, value: &Value) {
    for (name, value) in fields(Some(value)) {
        nested(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            match shape {
                Shape::NamedTexts => nested(out, 2, |out| texts(out, 1, Some(value))),
                shape => put(out, 2, shape, value),
            }
        });
    }
}

fn put(out: &mut Vec<u8>, number: u32, shape: &Shape, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match shape {
        Text => match value.as_str() {
            None | Some("") => {}
            Some(text) => put_bytes(out, number, text.as_bytes()),
        },
        Flag => flag(out, number, Some(value)),
        Shape::Double => double(out, number, Some(value).filter(|v| v.as_f64() != Some(0.0))),
        Whole => whole(out, number, Some(value).filter(|v| v.as_u64() != Some(0))),
        Texts => texts(out, number, Some(value)),
        Any => any(out, number, value),
        Shape::Anys => items().for_each(|v| any(out, number, v)),
        One(message) => nested(out, number, |out| put_message(out, message, value)),
        Many(message) => {
            items().for_each(|v| nested(out, number, |out| put_message(out, message, v)));
        }
        Either(message) => nested(out, number, |out| either(out, message, value)),
        Eithers(message) => {
            items().for_each(|v| nested(out, number, |out| either(out, message, v)))
        }
        Named(shape) => nested(out, number, |out| put_entries(out, 1, shape, value)),
        Shape::NamedTexts => put_entries(out, number, &Shape::NamedTexts, value),
        Shape::Paths => nested(out, number, |out| paths(out, value)),
        Shape::Responses => nested(out, number, |out| responses(out, value)),
        Shape::Items => nested(out, number, |out| {
            nested(out, 1, |out| either(out, &SCHEMA, value));
        }),
        Shape::Additional => nested(out, number, |out| match value {
            Value::Bool(more) => put_bool(out, 2, *more),
            below => nested(out, 1, |out| either(out, &SCHEMA, below)),
        }),
        Shape::Default => nested(out, number, |out| match value {
            Value::Number(_) => double(out, 1, Some(value)),
            Value::Bool(on) => put_bool(out, 2, *on),
            Value::String(text) => put_bytes(out, 3, text.as_bytes()),
            // Upstream's message has no place for others, and is empty for them.
            _ => {}
        }),
    }
}

/// One of a choice is written whatever it is.
fn put_bool(out: &mut Vec<u8>, number: u32, on: bool) {
    super::put_tag(out, number, super::Wire::Varint);
    super::put_varint(out, u64::from(on));
}

fn paths(out: &mut Vec<u8>, value: &Value) {
    for (path, item) in fields(Some(value)).filter(|(p, _)| p.starts_with('/')) {
        nested(out, 1, |out| {
            put_bytes(out, 1, path.as_bytes());
            nested(out, 2, |out| put_message(out, &PATH_ITEM, item));
        });
    }
    if let Some(map) = value.as_object() {
        extensions(out, 2, map);
    }
}

fn responses(out: &mut Vec<u8>, value: &Value) {
    let Some(map) = value.as_object() else { return };
    if let Some(default) = map.get("default") {
        nested(out, 1, |out| either(out, &RESPONSE, default));
    }
    let code =
        |name: &str| name.len() == 3 && name.bytes().all(|b| b.is_ascii_digit() || b == b'X');
    for (name, response) in map.iter().filter(|(name, _)| code(name)) {
        nested(out, 2, |out| {
            put_bytes(out, 1, name.as_bytes());
            nested(out, 2, |out| either(out, &RESPONSE, response));
        });
    }
    extensions(out, 3, map);
}

#[cfg(test)]
mod tests;
