//! Who asks and whether they may: authenticators and authorizers, one file each, the reviews that
//! answer questions about both, token requests, and the RBAC objects of a fresh cluster.

#![forbid(unsafe_code)]

pub mod anonymous;
mod backoff;
pub mod bootstrap;
pub mod bootstrap_token;
pub mod chain;
pub mod config;
pub mod creators;
pub mod feed;
pub mod identity;
pub mod jwt;
pub mod limits;
pub mod masters;
pub mod match_conditions;
pub mod message;
pub mod node;
pub mod rbac;
pub mod rbac_escalation;
pub mod request_header;
pub mod reviews;
pub mod service_account;
pub mod token_cache;
pub mod token_request;
pub mod token_webhook;
pub mod union;
#[doc(hidden)]
pub mod untrusted;
pub mod webhook_authorizer;
pub mod x509;

pub use message::{forbidden, forbidden_message};
pub use rbac::Rbac;
pub use union::{Authenticators, Authorizers, Link};

/// Group of every authenticated user.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of users that did not say who they are.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group that may do everything.
pub const MASTERS: &str = "system:masters";
/// API group of the RBAC kinds.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
