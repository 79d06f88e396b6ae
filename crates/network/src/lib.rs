//! The node's network: pods' interfaces (`bridge`), Services (`proxy`), addresses the node serves itself.
//! Everything acts in the network namespace of the calling threads. No host program is run.

#![forbid(unsafe_code)]

pub mod bridge;
pub mod cidr;
pub mod error;
pub mod limits;
pub mod local_address;
pub mod nodes;
pub mod proxy;
mod rules;

pub use bridge::BridgeNetwork;
pub use cidr::Cidr;
pub use error::Error;
pub use local_address::{ensure_local_address, remove_local_address};
