//! JSON values to CBOR (RFC 8949) and back, under the rules of Kubernetes: the self-described tag, strings as
//! byte strings, byte fields under tag 22, floats in their shortest form, duplicate keys refused.
//! Upstream: apimachinery/pkg/runtime/serializer/cbor and its `modes`; the error texts are those of its codec.

mod decode;
mod encode;
mod head;
mod unknown;
mod wellformed;

pub use decode::{decode, decode_first};
pub use encode::{List, Order, encode, watch_frame};
pub use unknown::unknown_field;

/// What every encoded object begins with: tag 55799.
pub const MAGIC: &[u8] = &[0xd9, 0xd9, 0xf7];

/// Why bytes are no CBOR that is taken, or a value has no such form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CborError(pub String);

impl CborError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A data item that is well-formed and nevertheless not taken.
    fn unacceptable(kind: head::Major, what: &str) -> Self {
        let kind = kind.name();
        Self(format!(
            "cbor: data item of cbor type {kind} is not accepted by protocol: {what}"
        ))
    }
}

/// Whether bytes begin with one well-formed data item within the limits.
pub fn is_well_formed(data: &[u8]) -> bool {
    let mut input = head::Input { data, at: 0 };
    wellformed::item(&mut input, 0).is_ok()
}
