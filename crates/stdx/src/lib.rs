//! What several crates need and no library has.

#![forbid(unsafe_code)]

pub mod regexp;
pub mod tls;
