//! The pod network and the proxy on the real kernel, in throw-away network namespaces.

#![allow(clippy::unwrap_used)] // A test may panic, in its helpers too.

mod bridge;
mod nodes;
mod proxy;
mod world;
