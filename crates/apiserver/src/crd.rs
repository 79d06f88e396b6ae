//! CustomResourceDefinitions: their kind, and a loop that serves what they define.
//! Upstream: apiextensions-apiserver; api-semantics §19.
//!
//! `kind` is the CRD resource itself, `validation` what may stand in one, `plan` decides names and conditions, `custom` makes the
//! descriptors of the custom resources, `run` carries it all out.

pub mod convert;
pub mod custom;
pub mod jsonpath;
pub mod kind;
mod plan;
mod run;
pub mod structural;
pub mod validation;

pub use run::{Known, run, serve_established};

/// The group of CRDs.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The plural of CRDs.
pub const RESOURCE: &str = "customresourcedefinitions";
/// Holds a deleted CRD until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
