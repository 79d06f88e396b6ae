//! Bounds of this crate.

/// Longest label or field selector that is parsed.
pub const SELECTOR_BYTES: usize = 64 << 10;
/// Most requirements of one selector.
pub const SELECTOR_REQUIREMENTS: usize = 1_000;
/// Deepest nesting of a protobuf message.
pub const PROTOBUF_DEPTH: usize = 100;
