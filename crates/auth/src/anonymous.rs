//! Anonymous users: let in for the paths named here and nowhere else, unless a configuration says otherwise.
//! Upstream: `anonymous` of AuthenticationConfiguration; k0s switches anonymous access off.

use std::sync::Arc;

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials, User};

use crate::config::authentication::AnonymousAuthConfig;

/// Paths that need no identity: health checks of load balancers and probes.
pub const HEALTH_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

/// Authenticates whoever brings no credentials, on some paths.
pub struct Anonymous {
    /// `None`: everywhere.
    paths: Option<Vec<String>>,
}

/// Asks an authenticator, and takes those for anonymous who bring no credentials. Bad ones make nobody anonymous.
/// Upstream: union.NewFailOnError.
pub struct OrAnonymous {
    pub known: Arc<dyn Authenticator>,
    pub anonymous: Option<Anonymous>,
}

// === Anonymous ===

impl Anonymous {
    /// Lets anonymous users in on exactly these paths.
    pub fn new(paths: &[&str]) -> Self {
        Self {
            paths: Some(paths.iter().map(|p| (*p).to_string()).collect()),
        }
    }

    /// What a configuration says; `None` where nobody is let in.
    pub fn of(config: &AnonymousAuthConfig) -> Option<Self> {
        let paths: Vec<String> = config.conditions.iter().map(|c| c.path.clone()).collect();
        config.enabled.then(|| Self {
            paths: Some(paths).filter(|p| !p.is_empty()),
        })
    }
}

#[async_trait]
impl Authenticator for Anonymous {
    fn name(&self) -> &'static str {
        "anonymous"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        let paths = self.paths.as_ref();
        if paths.is_some_and(|p| !p.iter().any(|p| p == c.path)) {
            return Ok(None);
        }
        Ok(Some(Authenticated {
            user: User::new("system:anonymous", &[crate::UNAUTHENTICATED]),
            audiences: Vec::new(),
        }))
    }
}

// === OrAnonymous ===

#[async_trait]
impl Authenticator for OrAnonymous {
    fn name(&self) -> &'static str {
        "union"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        match (self.known.authenticate(c).await?, &self.anonymous) {
            (None, Some(anonymous)) => anonymous.authenticate(c).await,
            (found, _) => Ok(found),
        }
    }
}
