//! Users by bootstrap token (`<id>.<secret>`), kept as Secrets in kube-system.
//! Upstream: plugin/pkg/auth/authenticator/token/bootstrap.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Reads;
use machinery::object::{is_deleting, str_at};
use machinery::request::{Authenticated, Authenticator, Credentials, User};
use machinery::{ApiError, GroupResource};
use serde_json::Value;

use crate::limits;

/// Knows users by bootstrap token.
pub struct BootstrapTokens {
    reads: Arc<dyn Reads>,
}

/// Group of every user that came with a bootstrap token.
pub const DEFAULT_GROUP: &str = "system:bootstrappers";

// === BootstrapTokens ===

impl BootstrapTokens {
    /// Looks tokens up in the shared cache of secrets.
    pub fn new(reads: Arc<dyn Reads>) -> Self {
        Self { reads }
    }

    /// The user of a token at `now`, in seconds since 1970.
    pub fn check(&self, token: &str, now: i64) -> Option<User> {
        let (id, secret) = parse(token)?;
        let cache = self.reads.cache(&GroupResource::new("", "secrets"))?;
        let object = cache
            .get("kube-system", &format!("bootstrap-token-{id}"))?
            .value()
            .ok()?;
        match user_of(&object, id, secret, now) {
            Ok(user) => Some(user),
            Err(why) => {
                tracing::debug!(token_id = id, why, "bootstrap token refused");
                None
            }
        }
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    fn name(&self) -> &'static str {
        "bootstrap-token"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let user = c.bearer.and_then(|t| self.check(t, pki::now()));
        Ok(user.map(|user| Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// Six and sixteen lower-case letters and digits around a dot.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let good = |s: &str, n: usize| {
        s.len() == n
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (good(id, 6) && good(secret, 16)).then_some((id, secret))
}

fn data(object: &Value, key: &str) -> String {
    let encoded = object["data"][key].as_str().unwrap_or("");
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

fn user_of(object: &Value, id: &str, secret: &str, now: i64) -> Result<User, &'static str> {
    if is_deleting(object) {
        return Err("is deleted and awaiting removal");
    }
    if str_at(object, "type") != "bootstrap.kubernetes.io/token" {
        return Err("has invalid type");
    }
    if !same(data(object, "token-secret").as_bytes(), secret.as_bytes()) {
        return Err("has invalid value for key token-secret");
    }
    if data(object, "token-id") != id {
        return Err("has invalid value for key token-id");
    }
    let expiration = data(object, "expiration");
    if !expiration.is_empty() {
        match expiration.parse::<jiff::Timestamp>() {
            Ok(t) if t.as_second() > now => {}
            Ok(_) => return Err("has expired"),
            Err(_) => return Err("has an unparsable expiration"),
        }
    }
    if data(object, "usage-bootstrap-authentication") != "true" {
        return Err("not marked usage-bootstrap-authentication=true");
    }
    let mut groups = vec![DEFAULT_GROUP.to_string()];
    let extra = data(object, "auth-extra-groups");
    for group in extra.split(',').filter(|g| !g.is_empty()) {
        if !group_is_valid(group) || groups.len() > limits::BOOTSTRAP_GROUPS_MAX {
            return Err("has invalid value for key auth-extra-groups");
        }
        if !groups.iter().any(|g| g == group) {
            groups.push(group.into());
        }
    }
    groups.sort();
    Ok(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    })
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`.
fn group_is_valid(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}

/// Compares without telling by its time where the texts differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}
