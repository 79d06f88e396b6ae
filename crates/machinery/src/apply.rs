//! Server-side apply and `metadata.managedFields`: who owns which field, and what follows from it.
//! Upstream: sigs.k8s.io/structured-merge-diff, apimachinery/pkg/util/managedfields; api-semantics §9.

mod compare;
mod configure;
mod field_set;
pub mod fields;
mod last_applied;
mod managers;
mod merge;
mod overlay;
mod reconcile;
mod remove;
pub mod scale;
#[cfg(test)]
mod tests;
pub mod types;
mod update;
mod validate;

pub use configure::{Applied, apply};
pub use fields::FieldSet;
pub use managers::times_only;
pub use overlay::overlay;
pub use types::{Model, TypeRef};
pub use update::{Request, Version, track};
