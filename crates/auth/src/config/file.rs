//! A configuration file that is looked at again when it changes: only what can be read, is valid and can be carried out
//! takes the place of what was before. Upstream: BuiltInAuthenticationOptions.ApplyTo, reloadableAuthorizerResolver.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use machinery::series::{Family, Kind, Registry};
use tokio::sync::Mutex;

use super::authentication::{AnonymousAuthConfig, AuthenticationConfiguration, validate};
use super::authorization::AuthorizationConfiguration;
use crate::chain::Chain;
use crate::jwt::{JwtAuthenticators, hash};
use crate::limits;

/// The metrics of one kind of file.
struct Families {
    reloads: Family,
    last: Family,
    info: Family,
}

static AUTHENTICATION: Families = Families {
    reloads: Family {
        name: "apiserver_authentication_config_controller_automatic_reloads_total",
        kind: Kind::Counter,
        help: "[BETA] Reloads of the authentication configuration, by status.",
        labels: &["status", "apiserver_id_hash"],
    },
    last: Family {
        name: "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
        kind: Kind::Gauge,
        help: "[BETA] When the authentication configuration was last reloaded, by status.",
        labels: &["status", "apiserver_id_hash"],
    },
    info: Family {
        name: "apiserver_authentication_config_controller_last_config_info",
        kind: Kind::Gauge,
        help: "[ALPHA] 1, with the hash of the authentication configuration in use.",
        labels: &["apiserver_id_hash", "hash"],
    },
};
static AUTHORIZATION: Families = Families {
    reloads: Family {
        name: "apiserver_authorization_config_controller_automatic_reloads_total",
        kind: Kind::Counter,
        help: "[BETA] Reloads of the authorization configuration, by status.",
        labels: &["status", "apiserver_id_hash"],
    },
    last: Family {
        name: "apiserver_authorization_config_controller_automatic_reload_last_timestamp_seconds",
        kind: Kind::Gauge,
        help: "[BETA] When the authorization configuration was last reloaded, by status.",
        labels: &["status", "apiserver_id_hash"],
    },
    info: Family {
        name: "apiserver_authorization_config_controller_last_config_info",
        kind: Kind::Gauge,
        help: "[ALPHA] 1, with the hash of the authorization configuration in use.",
        labels: &["apiserver_id_hash", "hash"],
    },
};

/// Who takes over what a file says.
#[async_trait]
pub trait Taker: Send + Sync {
    /// Takes over a text; what is done with it if not.
    async fn take(&self, text: &str) -> Result<(), Refusal>;
}

/// Why a text is not taken over.
#[derive(Debug)]
pub enum Refusal {
    /// It never will be.
    Bad(String),
    /// It may be another time.
    Later(String),
}

/// A file and who follows it.
pub struct File {
    path: PathBuf,
    taker: Arc<dyn Taker>,
    families: &'static Families,
    metrics: Arc<Registry>,
    server: String,
    /// The text that was last looked at.
    seen: Mutex<String>,
}

/// The issuers of `--authentication-config`. Anonymous users stay as they were at the start, as upstream.
pub struct Issuers {
    pub jwt: Arc<JwtAuthenticators>,
    pub disallowed: Vec<String>,
    pub anonymous: Option<AnonymousAuthConfig>,
}

/// Reads a configuration file's text.
pub fn read(path: &Path) -> Result<String, String> {
    let shown = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format!("open {}: no such file or directory", path.display())
        }
        _ => format!("{}: {e}", path.display()),
    };
    let size = std::fs::metadata(path).map_err(shown)?.len();
    if size > limits::CONFIG_BYTES_MAX as u64 {
        return Err(format!("{}: the file is too large", path.display()));
    }
    std::fs::read_to_string(path).map_err(shown)
}

// === File ===

impl File {
    /// An authentication configuration whose first `text` is in use.
    pub fn authentication(
        path: &Path,
        text: &str,
        issuers: Issuers,
        (metrics, server_id): (Arc<Registry>, &str),
    ) -> Self {
        let taker = Arc::new(issuers);
        Self::new(path, text, taker, &AUTHENTICATION, (metrics, server_id))
    }

    /// An authorization configuration whose first `text` is in use.
    pub fn authorization(
        path: &Path,
        text: &str,
        chain: Arc<Chain>,
        (metrics, server_id): (Arc<Registry>, &str),
    ) -> Self {
        Self::new(path, text, chain, &AUTHORIZATION, (metrics, server_id))
    }

    fn new(
        path: &Path,
        text: &str,
        taker: Arc<dyn Taker>,
        families: &'static Families,
        (metrics, server_id): (Arc<Registry>, &str),
    ) -> Self {
        let file = Self {
            path: path.to_path_buf(),
            taker,
            families,
            metrics,
            server: hash(server_id),
            seen: Mutex::new(text.to_string()),
        };
        file.tell(text);
        file
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file; whether something else was taken over.
    pub async fn check(&self) -> bool {
        let mut seen = self.seen.lock().await;
        let text = match read(&self.path) {
            Ok(text) if text == *seen => return false,
            Ok(text) => text,
            Err(why) => {
                self.count("failure", &why);
                return false;
            }
        };
        match self.taker.take(&text).await {
            Ok(()) => {
                *seen = text.clone();
                self.count("success", "");
                self.tell(&text);
                true
            }
            Err(Refusal::Bad(why)) => {
                *seen = text;
                self.count("failure", &why);
                false
            }
            Err(Refusal::Later(why)) => {
                self.count("failure", &why);
                false
            }
        }
    }

    fn count(&self, status: &str, why: &str) {
        let file = self.path.display();
        if status == "success" {
            tracing::info!(%file, "reloaded");
        } else {
            tracing::error!(%file, why, "not reloaded");
        }
        let labels = [status, self.server.as_str()];
        self.metrics.inc(&self.families.reloads, &labels);
        let last = self.metrics.series(&self.families.last, &labels);
        last.set_now();
    }

    fn tell(&self, text: &str) {
        let family = &self.families.info;
        self.metrics
            .forget(family, "apiserver_id_hash", &self.server);
        let info = self.metrics.series(family, &[&self.server, &hash(text)]);
        info.set(1.0);
    }
}

// === Takers ===

#[async_trait]
impl Taker for Issuers {
    async fn take(&self, text: &str) -> Result<(), Refusal> {
        let config = AuthenticationConfiguration::parse(text).map_err(Refusal::Bad)?;
        let (_, mut causes) = validate(&config, &self.disallowed);
        if config.anonymous != self.anonymous {
            causes.at("anonymous", |c| {
                c.forbidden("changed from initial configuration file");
            });
        }
        super::aggregate(&causes).map_err(Refusal::Bad)?;
        self.jwt.replace(&config).await.map_err(Refusal::Later)
    }
}

#[async_trait]
impl Taker for Chain {
    async fn take(&self, text: &str) -> Result<(), Refusal> {
        let config = AuthorizationConfiguration::parse(text).map_err(|e| {
            Refusal::Bad(format!(
                "failed to load AuthorizationConfiguration from file: {e}"
            ))
        })?;
        self.replace(&config).map_err(Refusal::Bad)
    }
}
