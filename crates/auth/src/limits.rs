//! Every bound of this crate.

/// Tokens whose signature is remembered as good; when full, the cache starts anew.
pub const VERIFIED_TOKENS_MAX: usize = 4096;
/// Client certificates whose user is remembered; when full, the cache starts anew.
pub const KNOWN_CERTIFICATES_MAX: usize = 1024;
/// Longest lifetime that a token may be asked for, in seconds (upstream: 2^32).
pub const TOKEN_SECONDS_MAX: i64 = 1 << 32;
/// Shortest lifetime that a token may be asked for, in seconds.
pub const TOKEN_SECONDS_MIN: i64 = 600;
/// Lifetime where none is asked for.
pub const TOKEN_SECONDS_DEFAULT: i64 = 3600;
/// What pods ask for by default; such tokens live a year and only warn after this time, as upstream's.
pub const TOKEN_SECONDS_WARN_ONLY: i64 = 3607;
/// How long those really live.
pub const TOKEN_SECONDS_EXTENDED: i64 = 365 * 24 * 3600;
/// Audiences that a TokenRequest or TokenReview may name.
pub const AUDIENCES_MAX: usize = 64;
/// Extra groups read from a bootstrap token's secret.
pub const BOOTSTRAP_GROUPS_MAX: usize = 64;
/// Missing atoms of an escalation listed in the message.
pub const MISSING_RULES_MAX: usize = 10_000;
/// Errors of missing roles listed in a denial's reason.
pub const REASON_ERRORS_MAX: usize = 100;
