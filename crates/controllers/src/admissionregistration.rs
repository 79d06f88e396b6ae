//! Controllers of group admissionregistration.k8s.io.

pub mod validating_admission_policy_status;
