//! The mechanism every API resource shares: descriptors, strategies, errors, field causes, patches,
//! server-side apply. No I/O, no clock, no client.

#![forbid(unsafe_code)]

pub mod apply;
pub mod causes;
pub mod conform;
pub mod descriptor;
pub mod error;
pub mod exposition;
pub mod gates;
pub mod limits;
pub mod meta;
pub mod metrics;
pub mod object;
pub mod patch;
pub mod request;
pub mod series;
pub mod strategy;
pub mod table;
pub mod webhook_client;

pub use causes::Causes;
pub use descriptor::{Descriptor, GroupResource, Scope, Subresource, SubresourceKind, Verb};
pub use error::ApiError;
pub use strategy::{Converter, Strategy, WriteContext};
pub use table::{Column, Row};
