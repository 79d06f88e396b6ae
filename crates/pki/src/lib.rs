//! The cluster's keys and certificates under k0s's file names, CSR signing, kubeconfig files and
//! service account tokens. Pure functions over files in one directory; no network, no clock of its
//! own where a caller may want to give one.

#![forbid(unsafe_code)]

pub mod ca;
pub mod csr;
pub mod error;
pub mod file;
pub mod jwk;
pub mod jwt;
pub mod key;
pub mod kubeconfig;
pub mod layout;
pub mod limits;
mod rsa;
pub mod stub;
pub mod token;

pub use ca::{Ca, Identity, LeafRequest, Usage};
pub use csr::Csr;
pub use error::Error;
pub use layout::{Pki, PkiOptions};
pub use stub::Stub;
pub use token::{Claims, LegacyClaims, ObjectRef, TokenError, TokenSigner, TokenVerifier};

/// The first bytes of a text's SHA-256, as hexadecimal digits.
pub fn sha256(text: &str, bytes: usize) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(bytes);
    first.map(|b| format!("{b:02x}")).collect()
}

/// Seconds since 1970 now.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
