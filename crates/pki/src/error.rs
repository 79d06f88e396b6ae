//! What can go wrong with keys and certificates, one variant per operation.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    ReadFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    WriteFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is longer than {max} bytes")]
    FileTooLong { path: PathBuf, max: u64 },
    #[error(
        "{path} exists but {missing} does not: restore it, or remove both to have a new pair made"
    )]
    HalfPair { path: PathBuf, missing: PathBuf },
    #[error("no usable private key: {why}")]
    ParseKey { why: String },
    #[error("no usable public key: {why}")]
    ParsePublicKey { why: String },
    #[error("no usable certificate: {why}")]
    ParseCertificate { why: String },
    #[error("certificate and key of {name} do not belong together")]
    KeyMismatch { name: String },
    #[error("no usable certificate request: {why}")]
    ParseCsr { why: String },
    #[error("key type {key_type:?} is not supported")]
    KeyType { key_type: String },
    #[error("cannot make a key")]
    GenerateKey(#[source] rcgen::Error),
    #[error("cannot sign a certificate for {name}")]
    Issue {
        name: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("the name {name} cannot stand in a certificate")]
    BadName { name: String },
    #[error("too many {what} in a certificate: {count}")]
    TooMany { what: &'static str, count: usize },
    #[error("cannot sign a token")]
    SignToken,
    #[error("keys of this kind cannot sign tokens: {why}")]
    TokenKey { why: String },
}
