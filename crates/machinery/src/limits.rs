//! Bounds of this crate.

/// Deepest nesting of a `fieldsV1`.
pub const FIELDS_DEPTH: usize = 200;
