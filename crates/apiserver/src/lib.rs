//! The generic API server over `machinery::Descriptor`s: filters, router, verbs, watch cache.
//! It is given its resources, authenticators, authorizers and admission plugins, and knows none
//! but CustomResourceDefinitions, which make new ones.
//!
//! The way of a request: `transport` → `filters::handle` → `verbs::dispatch` → `verbs::<verb>` →
//! `store` → `cache::Follower` → the answer.

#![forbid(unsafe_code)]

mod admit;
mod aggregate;
pub mod audit;
pub mod body;
pub mod cache;
pub mod call;
pub mod connect;
mod conversion;
mod counts;
mod crd;
mod decode;
mod discovery;
pub mod encryption;
mod event_lease;
mod fairness;
mod filter;
mod filters;
mod frames;
mod gzip;
mod health;
mod http2;
pub mod identity;
mod impersonate;
mod lanes;
pub mod limits;
mod list_options;
mod metrics;
pub mod negotiate;
mod openapi;
mod paths;
pub mod query;
pub mod registry;
pub mod request_info;
pub mod response;
mod router;
mod scale;
pub mod server;
pub mod trace;
mod transform;
pub mod transport;
#[doc(hidden)]
pub mod untrusted;
mod verbs;
mod zpages;

pub use aggregate::Aggregation;
pub use connect::{ConnectRequest, Connector};
pub use filters::{authorize, forbidden};
pub use lanes::Lanes;
pub use server::{Component, Identity, Peer, Plugins, Server, Target};
pub use transport::{Acceptor, Tls, TlsError};
