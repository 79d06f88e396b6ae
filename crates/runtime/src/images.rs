//! CRI's ImageService over the image store. Follows containerd's CRI plugin.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use cri::{AuthConfig, Error, ErrorKind, FilesystemUsage, Image, ProgressSink, PullProgress};
use oci::{Auth, ImageStore, StoredImage};

/// The node's images.
#[derive(Clone)]
pub struct ImageService {
    store: ImageStore,
}

// === ImageService ===

impl ImageService {
    /// Serves a store.
    pub fn new(store: ImageStore) -> Self {
        Self { store }
    }

    /// The store behind it.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }
}

#[async_trait]
impl cri::Images for ImageService {
    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.store.list().into_iter().map(image).collect())
    }

    async fn image_status(&self, image_name: &str) -> Result<Option<Image>, Error> {
        Ok(self.store.get(image_name).map(image))
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<AuthConfig>,
        progress: ProgressSink,
    ) -> Result<String, Error> {
        let auth = auth.map(credentials).transpose()?;
        let sink: oci::ProgressSink = Arc::new(move |p: oci::Progress| {
            progress(PullProgress {
                layers_done: p.layers_done,
                layers: p.layers,
                bytes_done: p.bytes_done,
                bytes: p.bytes,
            });
        });
        let begun = std::time::Instant::now();
        tracing::info!(image, "pulling an image");
        let id = self.store.pull(image, auth, sink).await.map_err(failed)?;
        tracing::info!(image, id, elapsed = ?begun.elapsed(), "pulled an image");
        Ok(id)
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.store.remove(image).await.map_err(failed)
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error> {
        let root = self.store.root();
        let fs = rustix::fs::statvfs(root)
            .map_err(|e| Error::internal(format!("statfs {}: {e}", root.display())))?;
        let usage = self.store.usage();
        Ok(FilesystemUsage {
            mountpoint: root.display().to_string(),
            used_bytes: usage.bytes,
            inodes_used: usage.inodes,
            capacity_bytes: fs.f_blocks * fs.f_frsize,
            available_bytes: fs.f_bavail * fs.f_frsize,
        })
    }
}

/// CRI's view of an image. A user that is a number, perhaps with a group behind it, is a uid.
fn image(stored: StoredImage) -> Image {
    let user = stored.user.split(':').next().unwrap_or_default();
    let uid = match user {
        // An image without a user runs as root.
        "" => Some(0),
        number => number.parse::<i64>().ok(),
    };
    Image {
        username: if uid.is_none() {
            user.to_string()
        } else {
            String::new()
        },
        uid,
        id: stored.id,
        repo_tags: stored.names,
        repo_digests: stored.digests,
        size_bytes: stored.size,
        pinned: stored.pinned,
    }
}

/// The credentials of a kubelet: a pair, `auth` with the pair in base64, or tokens.
fn credentials(auth: AuthConfig) -> Result<Auth, Error> {
    let mut out = Auth {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    };
    if out.username.is_empty() && !auth.auth.is_empty() {
        let invalid = || {
            Error::new(
                ErrorKind::InvalidArgument,
                "invalid registry auth config: auth must be base64 of user:password",
            )
        };
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(auth.auth.trim())
            .map_err(|_| invalid())?;
        let text = String::from_utf8(decoded).map_err(|_| invalid())?;
        let (user, password) = text.split_once(':').ok_or_else(invalid)?;
        out.username = user.to_string();
        out.password = password.trim_end_matches('\0').to_string();
    }
    Ok(out)
}

/// The gRPC code and kubelet's reason of a failed operation on images.
fn failed(error: oci::Error) -> Error {
    let message = error.to_string();
    let kind = match error.root() {
        oci::Error::Reference(_) | oci::Error::Digest(_) => ErrorKind::InvalidArgument,
        oci::Error::Mismatch { .. } => ErrorKind::FailedPrecondition,
        oci::Error::Limit { .. } => ErrorKind::ResourceExhausted,
        oci::Error::Request { .. } => ErrorKind::Unavailable,
        _ if error.is_not_found() => ErrorKind::NotFound,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, message).because("ErrImagePull")
}

#[cfg(test)]
mod tests {
    use super::{credentials, image};
    use cri::AuthConfig;
    use oci::StoredImage;

    fn with_user(user: &str) -> StoredImage {
        StoredImage {
            id: String::new(),
            target: String::new(),
            media_type: String::new(),
            platform: String::new(),
            names: Vec::new(),
            digests: Vec::new(),
            size: 0,
            user: user.to_string(),
            pinned: false,
            created: String::new(),
        }
    }

    #[test]
    fn users_are_numbers_or_names() {
        for (user, uid, name) in [
            ("", Some(0), ""),
            ("65535:65535", Some(65535), ""),
            ("nobody:users", None, "nobody"),
        ] {
            let image = image(with_user(user));
            assert_eq!((image.uid, image.username.as_str()), (uid, name), "{user}");
        }
    }

    #[test]
    fn credentials_may_be_packed() {
        let auth = |text: &str| {
            credentials(AuthConfig {
                auth: text.into(),
                ..AuthConfig::default()
            })
        };
        let unpacked = auth("dXNlcjpwYTpzcw==").unwrap();
        assert_eq!(
            (unpacked.username.as_str(), unpacked.password.as_str()),
            ("user", "pa:ss")
        );
        assert!(auth("%").is_err());
        assert!(auth("dXNlcg==").is_err());
    }
}
