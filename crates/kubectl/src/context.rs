//! What every command is given: global flags, the kubeconfig, the client, discovery.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;

use crate::discovery::Discovery;
use crate::error::{Error, Result};
use crate::rest::Rest;

/// The flags every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// Path to the kubeconfig file to use for CLI requests.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// If present, the namespace scope for this CLI request
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// The name of the kubeconfig context to use
    #[arg(long)]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long)]
    pub user: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(short, long)]
    pub server: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long)]
    pub token: Option<String>,
    /// Path to a cert file for the certificate authority
    #[arg(long)]
    pub certificate_authority: Option<String>,
    /// Path to a client certificate file for TLS
    #[arg(long)]
    pub client_certificate: Option<String>,
    /// Path to a client key file for TLS
    #[arg(long)]
    pub client_key: Option<String>,
    /// If true, the server's certificate will not be checked for validity
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// Server name to use for server certificate validation
    #[arg(long)]
    pub tls_server_name: Option<String>,
    /// Username to impersonate for the operation
    #[arg(long = "as")]
    pub as_user: Option<String>,
    /// Group to impersonate for the operation, can be repeated
    #[arg(long)]
    pub as_group: Vec<String>,
    /// UID to impersonate for the operation
    #[arg(long)]
    pub as_uid: Option<String>,
    /// The length of time to wait before giving up on a single server request
    #[arg(long, default_value = "0")]
    pub request_timeout: String,
    /// number for the log level verbosity
    #[arg(short, long, default_value = "0")]
    pub v: u8,
    /// Treat warnings received from the server as errors
    #[arg(long)]
    pub warnings_as_errors: bool,
    /// Default cache directory; accepted, nothing is cached on disk
    #[arg(long, hide = true)]
    pub cache_dir: Option<String>,
}

/// What a command works with.
#[derive(Debug)]
pub struct Context {
    pub globals: Globals,
    default_kubeconfig: Option<PathBuf>,
    rest: OnceCell<Rest>,
    discovery: OnceCell<Discovery>,
}

// === Context ===

impl Context {
    /// A context whose client connects when it is first used.
    pub fn new(globals: Globals, default_kubeconfig: Option<PathBuf>) -> Self {
        Self {
            globals,
            default_kubeconfig,
            rest: OnceCell::new(),
            discovery: OnceCell::new(),
        }
    }

    /// The kubeconfig file that writes go to, and the only one read where it is explicit.
    pub fn kubeconfig_path(&self) -> PathBuf {
        if let Some(path) = &self.globals.kubeconfig {
            return path.clone();
        }
        let first = std::env::var_os("KUBECONFIG")
            .and_then(|v| std::env::split_paths(&v).find(|p| !p.as_os_str().is_empty()));
        let home = || {
            let home = std::env::var_os("HOME")
                .map(PathBuf::from)
                .unwrap_or_default();
            home.join(".kube/config")
        };
        first
            .or_else(|| self.default_kubeconfig.clone())
            .unwrap_or_else(home)
    }

    /// The merged kubeconfig; empty where there is none.
    pub fn kubeconfig(&self) -> Result<Kubeconfig> {
        let bad = |e: kube::config::KubeconfigError| {
            Error::text(format!("error loading config file: {e}"))
        };
        if self.globals.kubeconfig.is_none()
            && let Some(merged) = Kubeconfig::from_env().map_err(bad)?
        {
            return Ok(merged);
        }
        let path = self.kubeconfig_path();
        if let Err(e) = std::fs::metadata(&path) {
            if self.globals.kubeconfig.is_some() {
                let text = crate::error::io_text(&e);
                return Err(Error::text(format!("stat {}: {text}", path.display())));
            }
            return Ok(Kubeconfig::default());
        }
        Kubeconfig::read_from(&path).map_err(bad)
    }

    /// The namespace of this call.
    pub fn namespace(&self) -> Result<String> {
        if let Some(ns) = &self.globals.namespace {
            return Ok(ns.clone());
        }
        let config = self.kubeconfig()?;
        let name = self.globals.context.clone().or(config.current_context);
        let context = config
            .contexts
            .into_iter()
            .find(|c| Some(&c.name) == name.as_ref())
            .and_then(|c| c.context);
        Ok(context
            .and_then(|c| c.namespace)
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".into()))
    }

    /// The client.
    pub async fn rest(&self) -> Result<&Rest> {
        self.rest.get_or_try_init(|| self.connect()).await
    }

    /// What the server serves.
    pub async fn discovery(&self) -> Result<&Discovery> {
        let rest = self.rest().await?;
        self.discovery
            .get_or_try_init(|| Discovery::load(rest))
            .await
    }

    async fn connect(&self) -> Result<Rest> {
        let g = &self.globals;
        let mut file = self.kubeconfig()?;
        for cluster in file.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
            if let Some(server) = &g.server {
                cluster.server = Some(server.clone());
            }
            if let Some(ca) = &g.certificate_authority {
                cluster.certificate_authority = Some(ca.clone());
                cluster.certificate_authority_data = None;
            }
            if g.insecure_skip_tls_verify {
                cluster.insecure_skip_tls_verify = Some(true);
                cluster.certificate_authority = None;
                cluster.certificate_authority_data = None;
            }
        }
        let mut config = if file.contexts.is_empty() && g.context.is_none() {
            let server = g.server.as_deref().unwrap_or("http://localhost:8080");
            let uri = server
                .parse()
                .map_err(|e| Error::text(format!("invalid server address {server}: {e}")))?;
            kube::Config::new(uri)
        } else {
            let options = KubeConfigOptions {
                context: g.context.clone(),
                cluster: g.cluster.clone(),
                user: g.user.clone(),
            };
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|e| config_error(g, &e))?
        };
        self.override_auth(&mut config.auth_info)?;
        config.accept_invalid_certs |= g.insecure_skip_tls_verify;
        if let Some(name) = &g.tls_server_name {
            config.tls_server_name = Some(name.clone());
        }
        config.read_timeout = None;
        config.disable_compression = true;
        Rest::new(config, g, timeout(&g.request_timeout)?)
    }

    fn override_auth(&self, auth: &mut AuthInfo) -> Result<()> {
        let g = &self.globals;
        if let Some(token) = &g.token {
            let given: AuthInfo = serde_json::from_value(serde_json::json!({"token": token}))
                .map_err(|e| Error::text(format!("invalid token: {e}")))?;
            *auth = given;
        }
        if let Some(path) = &g.client_certificate {
            auth.client_certificate = Some(path.clone());
            auth.client_certificate_data = None;
        }
        if let Some(path) = &g.client_key {
            auth.client_key = Some(path.clone());
            auth.client_key_data = None;
        }
        Ok(())
    }
}

fn config_error(g: &Globals, e: &kube::config::KubeconfigError) -> Error {
    match &g.context {
        Some(name) if e.to_string().contains("context") => Error::Plain(format!(
            "Error in configuration: context was not found for specified context: {name}"
        )),
        _ => Error::text(format!("invalid configuration: {e}")),
    }
}

/// `5s`, `1m30s`, `0`; a bare number is seconds.
pub fn timeout(text: &str) -> Result<Option<Duration>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    duration(text).map(Some)
}

/// A Go duration; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let nanos = api::duration::nanoseconds(text)
        .map_err(|_| Error::text(format!("time: invalid duration \"{text}\"")))?;
    Ok(Duration::from_nanos(nanos.max(0).unsigned_abs()))
}
