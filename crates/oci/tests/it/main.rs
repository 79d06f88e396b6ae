//! The store as its users see it: archives made here, and Debian's docker-registry on loopback.

#![allow(clippy::unwrap_used)] // a test's assertion

mod archive;
mod import;
mod pull;
