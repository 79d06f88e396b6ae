//! Controllers of group apps.

pub mod deployment;
pub mod replica_set;
