//! The pod network and the proxy on the real kernel, in throw-away network namespaces.

mod bridge;
mod proxy;
mod world;
