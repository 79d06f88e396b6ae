//! End-to-end tests on the release binary: a cluster started for the test, and the twins of
//! upstream's conformance tests.

#![forbid(unsafe_code)]

pub mod binary;
pub mod certs;
pub mod checks;
pub mod cluster;
pub mod connect;
pub mod crds;
pub mod exercise;
pub mod fixtures;
pub mod images;
pub mod isolate;
pub mod known;
pub mod level;
pub mod operations;
pub mod outsiders;
pub mod pods;
pub mod program;
pub mod reference;
pub mod registry;
pub mod rest;
pub mod signer;
pub mod tour;
pub mod twins;
pub mod waits;
pub mod watch;
pub mod webhooks;

pub use cluster::Cluster;
pub use rest::{Cx, Failure};
