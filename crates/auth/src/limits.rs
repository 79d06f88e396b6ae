//! Every bound of this crate.

use std::time::Duration;

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
/// Bytes of an AuthenticationConfiguration or AuthorizationConfiguration.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Issuers of an AuthenticationConfiguration, as upstream.
pub const JWT_AUTHENTICATORS_MAX: usize = 64;
/// How long an issuer may take to answer (upstream's client: 30 s).
pub const JWT_FETCH_TIME: Duration = Duration::from_secs(30);
/// Bytes of an issuer's document, its keys, or the token of a distributed claim.
pub const JWT_DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of an issuer's error text that are shown.
pub const JWT_ERROR_BYTES: usize = 2_048;
/// Between two looks for an issuer that was not found, as upstream.
pub const JWT_DISCOVERY_AGAIN: Duration = Duration::from_secs(10);
/// How long a new configuration waits for its issuers, as upstream.
pub const JWT_READY_WAIT: Duration = Duration::from_secs(60);
/// Seconds before `nbf` at which a token is good already (go-oidc: 1 min).
pub const JWT_NOT_BEFORE_LEEWAY: i64 = 60;
/// Keys that expire within this time are asked for again (go-oidc: 30 s).
pub const JWKS_EXPIRY_DELTA: Duration = Duration::from_secs(30);
/// Longest time that an answer may say its keys are fresh: an issuer that rotates them is not locked out for longer.
pub const JWKS_FRESH_MAX: Duration = Duration::from_secs(24 * 3600);
/// Other issuers that tokens of one issuer may name for distributed claims.
pub const JWT_CLAIM_ISSUERS_MAX: usize = 64;
/// Match conditions of an authorization webhook, as upstream.
pub const MATCH_CONDITIONS_MAX: usize = 64;
/// Tokens whose user is remembered for a short time.
pub const CACHED_TOKENS_MAX: usize = 4_096;
/// Tokens that are asked about at a time, and the longest time for one (upstream's sharedLookupTimeout).
pub const TOKEN_QUESTIONS_MAX: usize = 400;
pub const TOKEN_QUESTION_TIME: Duration = Duration::from_secs(30);
/// For how long users of tokens are remembered, as upstream's TokenSuccessCacheTTL.
pub const TOKEN_SUCCESS_TTL: Duration = Duration::from_secs(10);
/// How long a webhook may take where its configuration does not say (upstream's defaultRequestTimeout).
pub const WEBHOOK_TIME: Duration = Duration::from_secs(30);
/// Bytes of a webhook's answer.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Tries of a call that may succeed later, and the first wait between two, as upstream.
pub const WEBHOOK_TRIES: usize = 5;
pub const WEBHOOK_RETRY_FIRST: Duration = Duration::from_millis(500);
/// Decisions of a webhook that are remembered, as upstream.
pub const WEBHOOK_DECISIONS_MAX: usize = 8_192;
/// Those about requests whose own parts are longer are not, as upstream.
pub const WEBHOOK_CACHED_ATTRIBUTES_BYTES: usize = 10_000;
