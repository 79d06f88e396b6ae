//! Images. CRI v1 Image and AuthConfig.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An image that is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:...` of the image config.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    /// Numeric user of the image config, if it is one.
    pub uid: Option<i64>,
    /// User of the image config by name.
    pub username: String,
    /// Never removed by garbage collection.
    pub pinned: bool,
}

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// base64 of `user:password`.
    pub auth: String,
    pub identity_token: String,
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthConfig({}, secrets not shown)", self.username)
    }
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    pub layers_done: u32,
    pub layers: u32,
    pub bytes_done: u64,
    /// 0 where the registry did not say.
    pub bytes: u64,
}

/// Receives progress; must not block.
pub type ProgressSink = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// Use of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesystemUsage {
    pub mountpoint: String,
    pub used_bytes: u64,
    pub inodes_used: u64,
    pub capacity_bytes: u64,
    pub available_bytes: u64,
}
