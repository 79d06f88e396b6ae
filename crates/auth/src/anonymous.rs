//! Anonymous users: let in for the paths named here and nowhere else.
//! Upstream: `anonymous.conditions` of AuthenticationConfiguration; k0s switches anonymous access off.

use async_trait::async_trait;
use machinery::ApiError;
use machinery::request::{Authenticated, Authenticator, Credentials, User};

/// Paths that need no identity: health checks of load balancers and probes.
pub const HEALTH_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

/// Authenticates whoever brings no credentials, on some paths.
pub struct Anonymous {
    paths: &'static [&'static str],
}

// === Anonymous ===

impl Anonymous {
    /// Lets anonymous users in on exactly these paths.
    pub fn new(paths: &'static [&'static str]) -> Self {
        Self { paths }
    }
}

#[async_trait]
impl Authenticator for Anonymous {
    fn name(&self) -> &'static str {
        "anonymous"
    }

    async fn authenticate(&self, c: &Credentials<'_>) -> Result<Option<Authenticated>, ApiError> {
        if !self.paths.contains(&c.path) {
            return Ok(None);
        }
        Ok(Some(Authenticated {
            user: User::new("system:anonymous", &[crate::UNAUTHENTICATED]),
            audiences: Vec::new(),
        }))
    }
}
