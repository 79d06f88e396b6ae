//! Controllers of group certificates.k8s.io.

pub mod approver;
pub mod cleaner;
pub mod signer;
