//! The server over a temporary store, through TLS with real kubectl and in process.

mod crd;
mod env;
mod kubectl;
mod verbs;
