//! The Kubernetes environment of the Common Expression Language, as of version 1.37: the parser of the crate
//! `cel`, our own type checker, evaluator with cost limits, and libraries. Programs are immutable and shared.
//! Upstream: cel-go, k8s.io/apiserver/pkg/cel.

#![forbid(unsafe_code)]

pub mod admission;
mod check;
mod cost;
mod estimate;
mod eval;
mod fold;
pub mod library;
pub mod limits;
mod macros;
mod node;
mod program;
pub mod schema;
pub mod types;
pub mod value;

pub use estimate::{Range, Sizes, Unknown};
pub use eval::Lookup;
pub use program::{CompileErrors, Environment, EvalError, Outcome, Program};
pub use schema::Schema;
pub use types::Type;
pub use value::Value;

#[cfg(test)]
mod tests;
