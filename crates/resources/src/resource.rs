//! Kinds of resource.k8s.io. Selector expressions are not compiled here: there is no CEL yet.

pub mod device_class;
pub mod device_taint_rule;
mod devices;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_pool_status_request;
pub mod resource_slice;
pub mod v1beta1;

/// The API group.
const GROUP: &str = "resource.k8s.io";
