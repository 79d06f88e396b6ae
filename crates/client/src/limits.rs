//! Bounds of this crate.

/// Changes a subscriber may lag behind before it is cut off and must subscribe anew.
pub const SUBSCRIPTION_CHANGES: usize = 16_384;

/// Events waiting to be written by one recorder; more are dropped with a warning.
pub const RECORDER_QUEUE: usize = 1_024;

/// Distinct recent events a recorder remembers to count repeats (upstream's LRU size).
pub const RECORDER_MEMORY: usize = 4_096;
