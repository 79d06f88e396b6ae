//! Kinds of admissionregistration.k8s.io. Expressions are compiled as the write comes.

pub mod mutating_admission_policy;
pub mod mutating_admission_policy_binding;
pub mod mutating_webhook_configuration;
mod policy;
mod rules;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;
mod webhook;

/// The API group.
const GROUP: &str = "admissionregistration.k8s.io";
/// The category of all these kinds.
const CATEGORY: &[&str] = &["api-extensions"];
