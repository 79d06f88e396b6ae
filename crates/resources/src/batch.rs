//! Kinds of batch.

pub mod cron_job;
mod indexes;
pub mod job;
mod job_spec;
mod job_status;
mod schedule;

/// The API group.
pub const GROUP: &str = "batch";
