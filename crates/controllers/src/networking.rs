//! Controllers of group networking.k8s.io.

pub mod service_cidr;
