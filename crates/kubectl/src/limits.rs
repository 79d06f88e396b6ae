//! Every bound of the client.

/// Objects of one page of a list, as upstream's `--chunk-size`.
pub const PAGE: usize = 500;
/// Bytes of an answer that is held in memory as a whole.
pub const ANSWER_BYTES: usize = 1 << 30;
/// Values that a JSONPath finds where all are kept, as of a column.
pub const JSON_PATH_VALUES: usize = 1 << 20;
/// Values that all steps of a template look at, filters' too.
pub const JSON_PATH_VISITS: usize = 1 << 24;
/// Steps of one JSONPath, each of which needs stack.
pub const JSON_PATH_STEPS: usize = 128;
/// Ranges in ranges, and filters in filters.
pub const JSON_PATH_NESTED: usize = 16;
/// Bytes of text that a template writes: `..` shows what nests once for each level.
pub const JSON_PATH_TEXT: usize = 256 << 20;
/// Lines of an object that a diff compares one by one; more are shown as replaced as a whole.
pub const DIFF_LINES: usize = 4000;
/// Bytes of the body of a request that goes through `kubectl proxy`.
pub const PROXIED_BYTES: usize = 256 << 20;
/// Bytes read from a terminal or socket at once.
pub const READ_BYTES: usize = 32 * 1024;
/// Times an update is tried again after a conflict.
pub const CONFLICT_RETRIES: usize = 5;
/// Connections of one port-forward that may be open at once.
pub const FORWARDED_CONNECTIONS: usize = 256;
/// Deepest nesting of kustomizations.
pub const KUSTOMIZE_DEPTH: usize = 64;
