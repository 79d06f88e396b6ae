//! The whole: configuration, data directory, the parts and their order, readiness and shutdown.
//! The only crate that knows all parts.

#![forbid(unsafe_code)]

mod api_access;
mod api_args;
mod audit_webhook;
mod bootstrap;
mod components;
pub mod config;
mod control_plane;
pub mod ctr;
pub mod encryption;
mod extension_authentication;
pub mod first_process;
mod flow_control;
pub mod host;
mod identity_lease;
pub mod limits;
mod manifests;
pub mod node;
mod node_role;
pub mod paths;
mod progress;
mod reset;
mod rest;
mod static_pods;
pub mod status;
mod storage;
pub mod sysinfo;
mod system_services;
mod worker;
mod worker_profile;

pub use config::ClusterConfig;
pub use node::{Options, controller};
pub use paths::Paths;
pub use reset::reset;
