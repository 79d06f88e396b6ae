//! Kinds of the core group, v1.

pub mod amounts;
pub mod binding;
pub mod component_status;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_checks;
pub mod pod_spec;
pub mod pod_template;
pub mod pod_warnings;
pub mod replication_controller;
pub mod resource_quota;
pub mod same;
pub mod secret;
pub mod service;
pub mod service_account;
#[allow(dead_code)] // The workloads that use all of it follow in the next commits.
pub mod template;
mod volume_source;
