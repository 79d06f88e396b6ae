//! Controllers of group batch.

pub mod cron_job;
pub mod job;
pub mod ttl_after_finished;
