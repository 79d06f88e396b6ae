//! JSON objects to Kubernetes protobuf and back, from the schema table: no generated code.
//! Upstream: apimachinery/pkg/runtime/serializer/protobuf, generated.proto; api-semantics §3.4.

mod decode;
mod encode;
mod list;
pub mod wire;

use serde_json::Value;

use crate::schema;

pub use decode::decode;
pub use encode::{encode, envelope, watch_frame};
pub use list::List;

/// The bytes every enveloped object begins with.
pub const MAGIC: &[u8] = b"k8s\0";

/// Why a value has no protobuf form, or bytes are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(pub String);

impl ProtobufError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Whether a kind has a protobuf form.
pub fn has_form(group: &str, version: &str, kind: &str) -> bool {
    schema::lookup(group, version, kind).is_some()
}

/// Group and version of an `apiVersion`.
fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// `apiVersion` and `kind` of an object.
fn type_meta(value: &Value) -> (&str, &str) {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("");
    (text("apiVersion"), text("kind"))
}
