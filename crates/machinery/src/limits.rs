//! Bounds of this crate.

/// Deepest nesting of a `fieldsV1`.
pub const FIELDS_DEPTH: usize = 200;
/// Label sets of one metric that are told apart.
pub const METRIC_SERIES_MAX: usize = 2_000;
