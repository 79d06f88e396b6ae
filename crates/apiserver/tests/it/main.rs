//! The server over a temporary store, through TLS with real kubectl and in process.
#![allow(clippy::unwrap_used)] // A test may panic, in its helpers too.

mod access;
mod aggregate;
mod apply;
mod audit;
mod bad_input;
mod cbor;
mod connect;
mod core;
mod crd;
mod discovery;
mod encryption;
mod env;
mod events;
mod fairness;
mod fakes;
mod kms;
#[allow(dead_code)] // Its bad manners are for the crate's own tests.
mod kms_plugin;
mod kubectl;
mod lists;
mod long_list;
mod metrics;
mod openapi;
mod operations;
mod peer;
mod resume;
mod shutdown;
mod trace;
mod verbs;
