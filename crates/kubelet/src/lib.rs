//! The node agent: registers the node, runs its pods on a `cri::Runtime`, reports their status, serves
//! logs, exec and stats. Upstream: pkg/kubelet. Decisions are pure (`actions`, `status`, `env`, `admission`,
//! `resources`, `network_files`, `security`); effects are in `worker`, `sync`, `volumes`, `node`.

#![forbid(unsafe_code)]

pub mod actions;
pub mod admission;
mod atomic_writer;
pub mod config;
mod containers;
mod credentials;
pub mod downward;
pub mod env;
mod error;
pub mod eviction;
pub mod expansion;
mod hooks;
mod http_client;
mod image_gc;
mod images;
mod kubelet;
mod labels;
pub mod limits;
mod log_rotation;
pub mod network_files;
mod node;
pub mod observed;
mod paths;
pub mod pod;
mod pod_certificates;
mod pods;
pub mod probes;
mod pull_notes;
pub mod resize;
pub mod resources;
pub mod restart;
pub mod security;
mod server;
mod static_pods;
pub mod status;
mod sync;
mod termination_message;
#[cfg(test)]
mod testing;
mod tokens;
mod trust_bundles;
mod volumes;
mod worker;

pub use config::{Config, Eviction};
pub use error::Error;
pub use kubelet::{Parts, run};
pub use static_pods::{PodRules, StaticPods};
