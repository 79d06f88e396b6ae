//! Controllers of group batch.

pub mod job;
