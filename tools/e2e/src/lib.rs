//! End-to-end tests on the release binary: a cluster started for the test, and the twins of
//! upstream's conformance tests.

#![forbid(unsafe_code)]

pub mod binary;
pub mod checks;
pub mod cluster;
pub mod connect;
pub mod images;
pub mod isolate;
pub mod known;
pub mod pods;
pub mod rest;
pub mod tour;
pub mod twins;

pub use cluster::Cluster;
pub use rest::{Cx, Failure};
