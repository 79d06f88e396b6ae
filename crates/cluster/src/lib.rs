//! The whole: configuration, data directory, the parts and their order, readiness and shutdown.
//! The only crate that knows all parts.

#![forbid(unsafe_code)]

pub mod config;
pub mod limits;

pub use config::ClusterConfig;
