//! Bodies in CBOR. Upstream: the serializer's `Decode`, and how `transformDecodeError` tells of failures.

use api::cbor;
use api::schema::Schema;
use bytes::Bytes;
use serde_json::Value;

/// A failure, and whether version and kind were known when it was found.
pub struct Failure {
    pub text: String,
    pub of_kind: bool,
}

/// A body, and the one unknown field that upstream tells of, where there is a schema.
pub fn decoded(data: &Bytes, schema: Option<&Schema>) -> Result<(Value, Vec<String>), Failure> {
    let undetermined = |e: &dyn std::fmt::Display| Failure {
        text: format!("unable to determine group/version/kind: {e}"),
        of_kind: false,
    };
    let value = cbor::decode(data).map_err(|e| match cbor::is_well_formed(data) {
        true => Failure {
            text: e.to_string(),
            of_kind: true,
        },
        false => undetermined(&e),
    })?;
    let what = match &value {
        Value::Object(_) => None,
        Value::Array(_) => Some("array"),
        Value::String(_) => Some("byte string"),
        Value::Number(_) => Some("positive integer"),
        Value::Bool(_) | Value::Null => Some("primitives"),
    };
    if let Some(what) = what {
        return Err(undetermined(&format!(
            "cbor: cannot unmarshal {what} into Go value of type v1.TypeMeta"
        )));
    }
    let unknown = schema.and_then(|s| cbor::unknown_field(data, s));
    let told = |index| format!("cbor: found unknown field at map element index {index}");
    Ok((value, unknown.map(told).into_iter().collect()))
}
