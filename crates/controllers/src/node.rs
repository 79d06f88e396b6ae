//! Controllers of nodes, and of pods for their nodes' sake.

pub mod ipam;
pub mod lifecycle;
pub mod pod_gc;
pub mod taint_eviction;
pub mod ttl;
