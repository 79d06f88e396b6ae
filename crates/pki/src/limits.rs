//! Every bound of this crate.

/// Longest PEM file read, in bytes. A chain of certificates is a few kB.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest certificate signing request taken, in bytes.
pub const CSR_BYTES_MAX: usize = 64 << 10;
/// Longest bearer token looked at, in bytes; upstream's header limit is 1 MiB, real tokens have 1 to 2 kB.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Most audiences read from a token.
pub const TOKEN_AUDIENCES_MAX: usize = 64;
/// Most organizations put into a certificate.
pub const ORGANIZATIONS_MAX: usize = 64;
/// Most subject alternative names put into a certificate.
pub const SANS_MAX: usize = 256;
/// Life of a CA that we make.
pub const CA_VALIDITY_SECONDS: i64 = 10 * 365 * 24 * 3600;
/// Life of a leaf that we make (k0s: 8760 h).
pub const LEAF_VALIDITY_SECONDS: i64 = 365 * 24 * 3600;
/// How far back certificates begin, for clocks that disagree.
pub const BACKDATE_SECONDS: i64 = 300;
/// A leaf is issued anew when less than this part of its life is left: 1/5.
pub const RENEW_REMAINING_DIVISOR: i64 = 5;
/// Most keys of another issuer's JWKS document.
pub const JWKS_KEYS_MAX: usize = 1_000;
/// Longest number of such a key as text: RSA with 8192 bits needs 1366 bytes.
pub const JWK_NUMBER_BYTES_MAX: usize = 4 << 10;
