//! Kinds of flowcontrol.apiserver.k8s.io.

pub mod bootstrap;
pub mod flow_schema;
pub mod priority_level_configuration;
mod rules;

/// The API group.
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
