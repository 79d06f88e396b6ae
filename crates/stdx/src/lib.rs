//! What several crates need and no library has.

#![forbid(unsafe_code)]

pub mod tls;
