//! Controllers of group policy.

pub mod disruption;
