//! Controllers of group certificates.k8s.io.

pub mod approver;
pub mod cleaner;
pub mod pod_certificate_cleaner;
pub mod signer;
pub mod trust_bundle_publisher;
