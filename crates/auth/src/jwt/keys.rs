//! An issuer's keys: fetched when a signature is not by one that is known, one fetch at a time, whoever waits for it.
//! Upstream: go-oidc's remoteKeySet, and the metrics of oidc.go around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, DATE, EXPIRES};
use machinery::series::Registry;
use parking_lot::Mutex;
use pki::jwk::{self, Jwk};
use pki::jwt::Parsed;
use webhook::Fetcher;

use super::{FETCH, FETCHED, KEY_SET, hash};
use crate::limits;

/// The keys at one URL.
pub struct KeySet(Arc<Inner>);

struct Inner {
    url: String,
    fetcher: Arc<Fetcher>,
    /// Where fetches are counted: hashes of the issuer and of the server.
    counted: Option<(Arc<Registry>, String, String)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Jwk>>,
    /// Until then no unknown key makes us ask again.
    fresh_until: Option<Instant>,
    fetching: Option<Fetching>,
}

type Fetching = Shared<BoxFuture<'static, Result<Arc<Vec<Jwk>>, String>>>;

// === KeySet ===

impl KeySet {
    /// The keys at this URL; nothing is fetched yet.
    pub fn new(
        url: String,
        fetcher: Arc<Fetcher>,
        counted: Option<(Arc<Registry>, String, String)>,
    ) -> Self {
        Self(Arc::new(Inner {
            url,
            fetcher,
            counted,
            state: Mutex::default(),
        }))
    }

    /// Whether one of the keys signed the token.
    pub async fn verify(&self, token: &Parsed<'_>) -> Result<(), String> {
        let signed = |keys: &[Jwk]| {
            let named = |k: &&Jwk| token.kid().is_empty() || k.kid == token.kid();
            keys.iter().filter(named).any(|k| k.verifies(token))
        };
        let unsigned = || Err("failed to verify id token signature".to_string());
        let (known, fresh_until) = {
            let state = self.0.state.lock();
            (state.keys.clone(), state.fresh_until)
        };
        if signed(&known) {
            return Ok(());
        }
        let soon = Instant::now() + limits::JWKS_EXPIRY_DELTA;
        if fresh_until.is_some_and(|end| end >= soon) {
            return unsigned();
        }
        let fetched = self.fetch().await;
        match signed(&fetched.map_err(|e| format!("fetching keys {e}"))?) {
            true => Ok(()),
            false => unsigned(),
        }
    }

    /// Joins the fetch that is under way, or begins one. It goes on when who began it goes away.
    fn fetch(&self) -> Fetching {
        let mut state = self.0.state.lock();
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let task = tokio::spawn(updated(self.0.clone()));
        let fetching = async move {
            match task.await {
                Ok(done) => done,
                Err(e) => Err(e.to_string()),
            }
        };
        let fetching = fetching.boxed().shared();
        state.fetching = Some(fetching.clone());
        fetching
    }
}

async fn updated(inner: Arc<Inner>) -> Result<Arc<Vec<Jwk>>, String> {
    let done = inner.fetched().await;
    let mut state = inner.state.lock();
    state.fetching = None;
    let (keys, fresh) = done?;
    state.keys = keys.clone();
    state.fresh_until = Instant::now().checked_add(fresh);
    Ok(keys)
}

impl Inner {
    /// The keys, and for how long they are fresh.
    async fn fetched(&self) -> Result<(Arc<Vec<Jwk>>, Duration), String> {
        let (time, bytes) = FETCH;
        let answer = self.fetcher.get(&self.url, None, time, bytes).await;
        let good = answer.as_ref().ok().filter(|a| a.status == 200);
        let keys = good.map(|a| jwk::parse_set(&a.body));
        self.count(
            good.filter(|_| matches!(keys, Some(Ok(_))))
                .map(|a| &*a.body),
        );
        let answer = answer.map_err(|e| format!("oidc: get keys failed {e}"))?;
        match keys {
            None => {
                let shown = super::issuer::shown(&answer);
                Err(format!("oidc: get keys failed: {shown}"))
            }
            Some(Err(why)) => Err(format!("oidc: failed to decode keys: {why}")),
            Some(Ok(keys)) => Ok((Arc::new(keys), freshness(&answer.headers))),
        }
    }

    fn count(&self, document: Option<&[u8]>) {
        let Some((metrics, issuer, server)) = &self.counted else {
            return;
        };
        let result = if document.is_some() {
            "success"
        } else {
            "failure"
        };
        metrics
            .series(&FETCHED, &[result, issuer, server])
            .set_now();
        if let Some(document) = document {
            metrics.forget(&KEY_SET, "jwt_issuer_hash", issuer);
            let document = hash(&String::from_utf8_lossy(document));
            metrics
                .series(&KEY_SET, &[issuer, server, &document])
                .set(1.0);
        }
    }
}

/// For how long an answer may be kept (RFC 9111, 4.2.1); not at all where it does not say.
fn freshness(headers: &HeaderMap) -> Duration {
    let all = headers.get_all(CACHE_CONTROL).iter();
    let texts: Vec<String> = all
        .filter_map(|v| v.to_str().ok())
        .map(str::to_lowercase)
        .collect();
    let directives: Vec<&str> = texts
        .iter()
        .flat_map(|t| t.split(','))
        .map(str::trim)
        .collect();
    if directives
        .iter()
        .any(|d| ["no-store", "no-cache"].contains(d))
    {
        return Duration::ZERO;
    }
    let age = directives.iter().find_map(|d| d.strip_prefix("max-age="));
    if let Some(age) = age.and_then(|a| a.trim_matches('"').parse().ok()) {
        return Duration::from_secs(age).min(limits::JWKS_FRESH_MAX);
    }
    let time = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        jiff::fmt::rfc2822::parse(text).ok().map(|z| z.timestamp())
    };
    let Some(end) = time(EXPIRES) else {
        return Duration::ZERO;
    };
    let from = time(DATE).unwrap_or_else(jiff::Timestamp::now);
    let seconds = u64::try_from(end.as_second() - from.as_second());
    Duration::from_secs(seconds.unwrap_or(0)).min(limits::JWKS_FRESH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_as_long_as_the_answer_says() {
        for (name, value, wanted) in [
            ("cache-control", "public, max-age=60", 60),
            ("cache-control", "max-age=60, no-store", 0),
            ("cache-control", "max-age=99999999999", 86_400),
            ("cache-control", "max-age=-1", 0),
            ("expires", "Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("expires", "never", 0),
            ("x", "y", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(freshness(&headers).as_secs(), wanted, "{name}: {value}");
        }
    }
}
