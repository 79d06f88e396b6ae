//! Registries: the OCI distribution protocol 1.1 with Docker's token authentication, mirrors as containerd's
//! `certs.d/<registry>/hosts.toml` describes them.

mod auth;
mod hosts;
mod session;
mod transport;

use std::path::PathBuf;

pub(crate) use session::Session;

/// Where registries are looked up.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Folder of `<registry>/hosts.toml` files, as containerd's `config_path`; read at each pull.
    pub config_path: Option<PathBuf>,
}

/// Credentials for a registry. All empty: anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({}, secrets not shown)", self.username)
    }
}
