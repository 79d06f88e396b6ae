//! Who is let in and who decides, by `spec.api.extraArgs`, and the files behind them, which are followed.
//! Upstream: BuiltInAuthenticationOptions and BuiltInAuthorizationOptions of kube-apiserver.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::anonymous::{Anonymous, HEALTH_PATHS, OrAnonymous};
use auth::chain::{Chain, Lasting};
use auth::config::file::{File, Issuers};
use auth::jwt::{Context, JwtAuthenticators};
use auth::token_cache::{TokenAuthenticator, TokenCache, Ttl};
use auth::token_webhook::TokenWebhook;
use linux::inotify::{self, Watch};
use machinery::request::{Authenticator, Authorizer};
use machinery::series::Registry;

use crate::api_args::{ApiArgs, Authentication};

/// How often a file is looked at where its folder cannot be watched, and at the latest, as upstream.
const LOOK: Duration = Duration::from_secs(60);

/// What access is made of.
pub struct Parts {
    pub metrics: Arc<Registry>,
    /// Tells servers apart in metrics.
    pub server_id: String,
    /// Issuers and audiences of the cluster's own tokens.
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    /// Who knows users by what is no token, then by the cluster's own tokens.
    pub known: Vec<Arc<dyn Authenticator>>,
    pub node: Arc<dyn Authorizer>,
    pub rbac: Arc<dyn Authorizer>,
}

/// Who is let in and who decides.
pub struct Access {
    pub authenticator: Arc<dyn Authenticator>,
    /// Those of them that know foreign tokens.
    pub tokens: Vec<Arc<dyn Authenticator>>,
    pub authorizer: Arc<dyn Authorizer>,
    /// Files that may change.
    files: Vec<File>,
}

/// Reads flags and files. Must be called within a tokio runtime.
pub fn build(args: ApiArgs<'_>, parts: Parts) -> Result<Access, String> {
    let given = args.authentication()?;
    let context = Context {
        algorithms: given.algorithms.clone(),
        disallowed: parts.issuers.clone(),
        server_id: parts.server_id.clone(),
        metrics: parts.metrics.clone(),
    };
    let jwt = JwtAuthenticators::new(&given.config, context);
    let jwt = jwt.map_err(|e| format!("invalid authentication configuration: {e}"))?;
    let jwt = Arc::new(jwt);
    let tokens = tokens(&given, &jwt, &parts)?;
    let mut known = parts.known.clone();
    known.extend(tokens.iter().cloned());
    let anonymous = match &given.config.anonymous {
        _ if given.nobody_anonymous => None,
        Some(config) => Anonymous::of(config),
        None => Some(Anonymous::new(HEALTH_PATHS)),
    };
    let authenticator = OrAnonymous {
        known: Arc::new(auth::Authenticators(known)),
        anonymous,
    };
    let decides = args.authorization()?;
    let lasting = Lasting {
        node: parts.node.clone(),
        rbac: parts.rbac.clone(),
        metrics: parts.metrics.clone(),
    };
    let chain = Arc::new(Chain::new(&decides.config, lasting)?);
    let told = || (parts.metrics.clone(), parts.server_id.as_str());
    let mut files = Vec::new();
    if let Some((path, text)) = &given.file {
        let issuers = Issuers {
            jwt,
            disallowed: parts.issuers.clone(),
            anonymous: given.config.anonymous.clone(),
        };
        files.push(File::authentication(path, text, issuers, told()));
    }
    if let Some((path, text)) = &decides.file {
        files.push(File::authorization(path, text, chain.clone(), told()));
    }
    Ok(Access {
        authenticator: Arc::new(authenticator),
        tokens,
        authorizer: chain,
        files,
    })
}

/// Those who know foreign tokens, each behind a cache.
fn tokens(
    given: &Authentication,
    jwt: &Arc<JwtAuthenticators>,
    parts: &Parts,
) -> Result<Vec<Arc<dyn Authenticator>>, String> {
    let cached =
        |inner: Arc<dyn TokenAuthenticator>, ttl| -> Result<Arc<dyn Authenticator>, String> {
            Ok(Arc::new(TokenCache::new(
                inner,
                ttl,
                parts.metrics.clone(),
            )?))
        };
    let short = Ttl {
        success: auth::limits::TOKEN_SUCCESS_TTL,
        failure: Duration::ZERO,
        errors: true,
    };
    let mut out = Vec::new();
    if given.file.is_some() || !given.config.jwt.is_empty() {
        out.push(cached(jwt.clone(), short)?);
    }
    if let Some(review) = &given.webhook {
        let audiences = parts.audiences.clone();
        let webhook = TokenWebhook::open(&review.kubeconfig, &review.version, audiences)?;
        let ttl = Ttl {
            success: review.ttl,
            failure: review.ttl,
            errors: false,
        };
        out.push(cached(Arc::new(webhook), ttl)?);
    }
    Ok(out)
}

impl Access {
    /// Follows the files for the life of the process.
    pub fn follow(self) {
        for file in self.files {
            tokio::spawn(follow(file));
        }
    }
}

async fn follow(file: File) {
    let folder = file.path().parent().unwrap_or(Path::new("/"));
    let watch = || -> std::io::Result<Watch> {
        let watch = Watch::new()?;
        watch.add(folder, inotify::ENTRIES)?;
        Ok(watch)
    };
    let mut watch = watch()
        .map_err(|error| {
            let path = file.path().display();
            tracing::error!(%path, %error, "the file's folder is not watched");
        })
        .ok();
    loop {
        let changed = async {
            match &watch {
                Some(watch) => watch.next().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        if let Ok(false) = tokio::time::timeout(LOOK, changed).await {
            watch = None;
        }
        file.check().await;
    }
}
