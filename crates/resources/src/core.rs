//! Kinds of the core group, v1.

pub mod config_map;
pub mod event;
pub mod namespace;
mod pod_checks;
mod pod_spec;
pub mod secret;
pub mod service_account;
pub mod template;
