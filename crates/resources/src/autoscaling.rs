//! Kinds of autoscaling.

mod convert;
pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
mod metrics;

/// The API group.
const GROUP: &str = "autoscaling";
