//! Bounds of this crate.

/// Bytes of one message or frame from the other side.
pub const MESSAGE_BYTES: usize = 1 << 20;
