//! Controllers of group discovery.k8s.io.

pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod slices;
