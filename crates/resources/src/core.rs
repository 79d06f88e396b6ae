//! Kinds of the core group, v1.

#[allow(dead_code)] // The depth of the pods' checks follows in the next commits.
pub mod amounts;
pub mod binding;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
mod pod_checks;
pub mod pod_spec;
pub mod pod_template;
pub mod secret;
pub mod service;
pub mod service_account;
#[allow(dead_code)] // The workloads that use all of it follow in the next commits.
pub mod template;
