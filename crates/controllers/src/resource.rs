//! Controllers of resource.k8s.io.

pub mod resource_claim;
