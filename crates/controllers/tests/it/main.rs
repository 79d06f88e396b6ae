//! Controllers against a real API server. One binary, one file per group.

#![allow(clippy::unwrap_used)]

mod apps;
mod batch;
mod core;
mod discovery;
mod resource;
mod world;
