//! Remembers for a short time what authenticators that are slow said of a token; those who ask at the same time share
//! one answer. Upstream: k8s.io/apiserver/pkg/authentication/token/cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials};
use machinery::series::{DEFAULT, Family, Kind, Registry};
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::limits;

static REQUESTS: Family = Family {
    name: "authentication_token_cache_request_total",
    kind: Kind::Counter,
    help: "[ALPHA] Tokens looked for in a cache, by whether they were there.",
    labels: &["status"],
};
static SECONDS: Family = Family {
    name: "authentication_token_cache_request_duration_seconds",
    kind: Kind::Histogram(DEFAULT),
    help: "[ALPHA] Seconds until a token's user was known, by whether it was in a cache.",
    labels: &["status"],
};
static FETCHES: Family = Family {
    name: "authentication_token_cache_fetch_total",
    kind: Kind::Counter,
    help: "[ALPHA] Tokens that were in no cache and were asked for, by the result.",
    labels: &["status"],
};

/// Tells the user of a token, without anything else of the request.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// Name for logs and metrics.
    fn name(&self) -> &'static str;
    /// The user of a token for these audiences (empty: the server's own). `Ok(None)`: not one of ours.
    async fn check(&self, token: &str, audiences: &[String]) -> Answer;
}

/// What one says of a token.
pub type Answer = Result<Option<Authenticated>, String>;

/// For how long what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    pub success: Duration,
    /// Of "not one of ours" and, if errors are remembered, of them.
    pub failure: Duration,
    pub errors: bool,
}

/// A cache before another authenticator.
pub struct TokenCache {
    inner: Arc<dyn TokenAuthenticator>,
    ttl: Ttl,
    /// What keys are made with, so that they tell nothing about tokens.
    key: hmac::Key,
    state: Arc<Mutex<State>>,
    /// Questions under way.
    places: Arc<Semaphore>,
    /// The longest time for one.
    time: Duration,
    metrics: Arc<Registry>,
}

#[derive(Default)]
struct State {
    known: HashMap<[u8; 32], (Answer, Instant)>,
    asked: HashMap<[u8; 32], Shared<BoxFuture<'static, Answer>>>,
}

// === TokenCache ===

impl TokenCache {
    /// A cache before `inner`. The error: the system has no randomness.
    pub fn new(
        inner: Arc<dyn TokenAuthenticator>,
        ttl: Ttl,
        metrics: Arc<Registry>,
    ) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            inner,
            ttl,
            key: key.map_err(|_| "no random key for the token cache")?,
            state: Arc::default(),
            places: Arc::new(Semaphore::new(limits::TOKEN_QUESTIONS_MAX)),
            time: limits::TOKEN_QUESTION_TIME,
            metrics,
        })
    }

    fn key(&self, token: &str, audiences: &[String]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }

    /// What is known of a key, or the question that is under way or begins now. A question goes on when who asked
    /// goes away.
    fn look(&self, key: [u8; 32], token: &str, audiences: &[String]) -> Look {
        let mut state = self.state.lock();
        match state.known.get(&key) {
            Some((answer, end)) if *end > Instant::now() => return Look::Known(answer.clone()),
            _ => {}
        }
        if let Some(asked) = state.asked.get(&key) {
            return Look::Asked(asked.clone());
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Look::Known(Err("too many tokens are being looked up".into()));
        };
        let (inner, shared) = (self.inner.clone(), self.state.clone());
        let (ttl, time, metrics) = (self.ttl, self.time, self.metrics.clone());
        let (token, audiences) = (token.to_string(), audiences.to_vec());
        let task = tokio::spawn(async move {
            let _place = place;
            let asking = inner.check(&token, &audiences);
            let answer = match tokio::time::timeout(time, asking).await {
                Ok(answer) => answer,
                Err(_) => Err("lookup timed out".into()),
            };
            let status = if answer.is_ok() { "ok" } else { "error" };
            metrics.inc(&FETCHES, &[status]);
            let mut state = shared.lock();
            state.asked.remove(&key);
            state.remember(key, &answer, ttl);
            answer
        });
        let asked = async move { task.await.unwrap_or_else(|e| Err(e.to_string())) };
        let asked = asked.boxed().shared();
        state.asked.insert(key, asked.clone());
        Look::Asked(asked)
    }
}

enum Look {
    Known(Answer),
    Asked(Shared<BoxFuture<'static, Answer>>),
}

impl State {
    fn remember(&mut self, key: [u8; 32], answer: &Answer, ttl: Ttl) {
        let time = match answer {
            Ok(Some(_)) => ttl.success,
            Err(_) if !ttl.errors => return,
            Ok(None) | Err(_) => ttl.failure,
        };
        if time.is_zero() {
            return;
        }
        let now = Instant::now();
        if self.known.len() >= limits::CACHED_TOKENS_MAX {
            self.known.retain(|_, (_, end)| *end > now);
        }
        if self.known.len() >= limits::CACHED_TOKENS_MAX {
            self.known.clear();
        }
        self.known.insert(key, (answer.clone(), now + time));
    }
}

#[async_trait]
impl TokenAuthenticator for TokenCache {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn check(&self, token: &str, audiences: &[String]) -> Answer {
        let begun = Instant::now();
        let key = self.key(token, audiences);
        let (answer, status) = match self.look(key, token, audiences) {
            Look::Known(answer) => (answer, "hit"),
            Look::Asked(asked) => (asked.await, "miss"),
        };
        self.metrics.inc(&REQUESTS, &[status]);
        self.metrics.observe(&SECONDS, &[status], begun.elapsed());
        answer
    }
}

#[async_trait]
impl Authenticator for TokenCache {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let Some(token) = c.bearer else {
            return Ok(None);
        };
        let found = TokenAuthenticator::check(self, token, c.audiences).await;
        found.map_err(|why| ApiError::new(401, "Unauthorized", why))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use machinery::request::User;
    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Slow {
        asked: AtomicUsize,
        gate: Notify,
    }

    #[async_trait]
    impl TokenAuthenticator for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        async fn check(&self, token: &str, _audiences: &[String]) -> Answer {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match token {
                "good" => {
                    self.gate.notified().await;
                    Ok(Some(Authenticated {
                        user: User::new("jane", &[]),
                        audiences: Vec::new(),
                    }))
                }
                "other" => Ok(None),
                "hang" => std::future::pending().await,
                _ => Err("no".into()),
            }
        }
    }

    fn cache(errors: bool) -> (Arc<Slow>, Arc<TokenCache>) {
        let slow = Arc::new(Slow::default());
        let ttl = Ttl {
            success: Duration::from_secs(3600),
            failure: Duration::from_secs(3600),
            errors,
        };
        let cache = TokenCache::new(slow.clone(), ttl, Arc::default()).unwrap();
        (slow, Arc::new(cache))
    }

    async fn ask(cache: &TokenCache, token: &str) -> Answer {
        TokenAuthenticator::check(cache, token, &[]).await
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_an_answer() {
        let (slow, cache) = cache(false);
        let asking = || {
            let cache = cache.clone();
            tokio::spawn(async move { ask(&cache, "good").await })
        };
        let both = (asking(), asking());
        slow.gate.notify_one();
        assert!(both.0.await.unwrap().unwrap().is_some());
        assert!(both.1.await.unwrap().unwrap().is_some());
        assert!(ask(&cache, "good").await.unwrap().is_some());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
        let text = cache.metrics.text();
        let hit = "authentication_token_cache_request_total{status=\"hit\"} ";
        assert!(text.contains(hit), "{text}");
        // For other audiences the answer may differ.
        slow.gate.notify_one();
        let other = TokenAuthenticator::check(&*cache, "good", &["a".to_string()]).await;
        assert!(other.unwrap().is_some());
        assert_eq!(slow.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn errors_are_remembered_only_where_that_is_wanted() {
        for (errors, wanted) in [(false, 2), (true, 1)] {
            let (slow, cache) = cache(errors);
            for _ in 0..2 {
                assert_eq!(ask(&cache, "bad").await.unwrap_err(), "no");
            }
            assert_eq!(slow.asked.load(Ordering::SeqCst), wanted);
            for _ in 0..2 {
                assert!(ask(&cache, "other").await.unwrap().is_none());
            }
            assert_eq!(slow.asked.load(Ordering::SeqCst), wanted + 1);
        }
    }

    #[tokio::test]
    async fn one_that_hangs_holds_nobody_for_ever() {
        let (_, mut cache) = cache(false);
        Arc::get_mut(&mut cache).unwrap().time = Duration::ZERO;
        assert_eq!(ask(&cache, "hang").await.unwrap_err(), "lookup timed out");
    }
}
