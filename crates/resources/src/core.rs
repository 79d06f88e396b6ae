//! Kinds of the core group, v1.

pub mod config_map;
pub mod event;
pub mod namespace;
#[allow(dead_code)] // Pods follow in the next commit.
mod pod_checks;
#[allow(dead_code)] // Pods follow in the next commit.
mod pod_spec;
pub mod secret;
pub mod service_account;
#[allow(dead_code)] // The workloads that use it follow in the next commits.
pub mod template;
