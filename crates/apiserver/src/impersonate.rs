//! Acting as somebody else by `Impersonate-*` headers: constrained (KEP-5284), where single ways of acting are granted,
//! and the old way, where everything is. Upstream: k8s.io/apiserver/pkg/endpoints/filters/impersonation.

mod modes;

use std::time::Instant;

use http::{HeaderMap, HeaderName};
use machinery::ApiError;
use machinery::request::{Attributes, User};
use machinery::series::{DOUBLING, Family, Kind};

use crate::server::Inner;

pub use modes::Modes;

static ATTEMPTS: Family = Family {
    name: "apiserver_impersonation_attempts_total",
    kind: Kind::Counter,
    help: "[ALPHA] Requests that act as another, by mode and decision.",
    labels: &["mode", "decision"],
};
static SECONDS: Family = Family {
    name: "apiserver_impersonation_attempts_duration_seconds",
    kind: Kind::Histogram(DOUBLING),
    help: "[ALPHA] Seconds until it was known whether they may, by mode and decision.",
    labels: &["mode", "decision"],
};

/// Whom a request acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    pub user: User,
    /// The verb by which that was allowed; empty where it was `impersonate`.
    pub constraint: &'static str,
}

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Whom a request acts as, if it does: every part of the identity must be allowed. `asked` gives the request as its
/// sender's. The headers are taken away, so that nobody behind this knows of them.
pub async fn impersonated(
    server: &Inner,
    headers: &mut HeaderMap,
    asked: impl FnOnce() -> Attributes,
) -> Result<Option<Impersonated>, ApiError> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    let ours =
        |n: &&HeaderName| [USER, UID, GROUP].contains(&n.as_str()) || n.as_str().starts_with(EXTRA);
    for name in names.iter().filter(ours) {
        headers.remove(name);
    }
    let begun = Instant::now();
    let done = server.impersonation.find(server, &wanted, &asked()).await;
    let labels = match &done {
        Err(_) => ["", "denied"],
        Ok(found) => [modes::of_verb(found.constraint), "allowed"],
    };
    server.access.inc(&ATTEMPTS, &labels);
    server.access.observe(&SECONDS, &labels, begun.elapsed());
    done.map(Some)
}

/// The user that headers name, as they name him.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        let texts = values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        texts.collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut wanted = User {
        name: first(USER),
        uid: first(UID),
        groups: all(GROUP),
        ..User::default()
    };
    for key in headers.keys() {
        if let Some(extra) = key.as_str().strip_prefix(EXTRA) {
            let known = wanted.extra.entry(crate::query::decode(extra, false));
            known.or_default().extend(all(key.as_str()));
        }
    }
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == User::default() {
        return Ok(None);
    }
    Err(ApiError::bad_request(format!(
        "requested {} without impersonating a user name",
        go_syntax(&wanted)
    )))
}

/// Go's `%#v` of a user.
fn go_syntax(user: &User) -> String {
    use machinery::causes::go_quote;
    let list = |all: &[String]| {
        let quoted: Vec<String> = all.iter().map(|s| go_quote(s)).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_string(),
        all => list(all),
    };
    let extra = match user.extra.is_empty() {
        true => "map[string][]string(nil)".to_string(),
        false => {
            let one = |(k, v): (&String, &Vec<String>)| {
                let values = list(v);
                let values = values.trim_start_matches("[]string");
                format!("{}:[]string{values}", go_quote(k))
            };
            let all: Vec<String> = user.extra.iter().map(one).collect();
            format!("map[string][]string{{{}}}", all.join(", "))
        }
    };
    let (name, uid) = (go_quote(&user.name), go_quote(&user.uid));
    format!("&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{groups}, Extra:{extra}}}")
}

#[cfg(test)]
mod tests;
