//! Bounds of this crate.

/// Longest label or field selector that is parsed.
pub const SELECTOR_BYTES: usize = 64 << 10;
/// Most requirements of one selector.
pub const SELECTOR_REQUIREMENTS: usize = 1_000;
/// Deepest nesting of a protobuf message.
pub const PROTOBUF_DEPTH: usize = 100;
/// Deepest nesting of CBOR, as of JSON: what is taken must be readable again. (Upstream: 10,000 of both.)
pub const CBOR_DEPTH: usize = 126;
/// Most pairs of one map in CBOR; arrays are bounded by the request's body alone. (Upstream: the same.)
pub const CBOR_PAIRS: usize = 2_097_152;
