//! What several controllers share. Upstream: pkg/controller/controller_utils.go, controller_ref_manager.go.

pub mod act;
pub mod aggregated;
pub mod bootstrap_token;
pub mod claim;
pub mod hash;
pub mod numbers;
pub mod object;
pub mod placement;
pub mod pods;
pub mod revisions;
pub mod selector;
pub mod service;
pub mod taints;
