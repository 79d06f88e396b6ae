//! Encryption at rest: the key that a node makes for itself, and its rotation.
//!
//! Without a configuration of the user's, Secrets are sealed with a key that is made at the first start
//! and lies, as an EncryptionConfiguration, beside the other keys of the node (mode 0600).

use std::path::{Path, PathBuf};

use apiserver::encryption::{Encryption, EncryptionConfig, FileReload, new_key};
use machinery::Descriptor;
use serde_json::{Value, json};
use store::Store;
use tokio::sync::{Mutex, watch};

use crate::api_args::ApiArgs;
use crate::paths::Paths;

/// The running node's encryption.
pub struct Keeper {
    encryption: Encryption,
    /// The store as it is on disk.
    raw: Store,
    /// The node's own file; `None` where the user named another.
    own: Option<PathBuf>,
    /// The user's file, where it is to be followed.
    follow: parking_lot::Mutex<Option<FileReload>>,
    /// One rotation at a time.
    rotating: Mutex<()>,
}

/// Reads or makes the configuration.
fn load(args: ApiArgs<'_>, paths: &Paths) -> Result<(EncryptionConfig, Option<PathBuf>), String> {
    if let Some(path) = args.encryption_config() {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        let config = EncryptionConfig::parse(&text).map_err(|e| format!("{path}: {e}"))?;
        return Ok((config, None));
    }
    let path = paths.encryption();
    let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let config = match pki::file::read(&path).map_err(|e| shown(&e))? {
        Some(text) => EncryptionConfig::parse(&text).map_err(|e| shown(&e))?,
        None => {
            let key = new_key(jiff::Timestamp::now()).map_err(|e| shown(&e))?;
            let config = EncryptionConfig::of_secrets(vec![key]);
            write(&path, &config)?;
            config
        }
    };
    Ok((config, Some(path)))
}

fn write(path: &Path, config: &EncryptionConfig) -> Result<(), String> {
    let done = pki::file::write(path, config.text().as_bytes(), 0o600);
    done.map_err(|e| format!("{}: {e}", path.display()))
}

impl Keeper {
    /// The encryption of a node's store, and the store over it. KMS plug-ins are asked how they are; `id` is the
    /// API server's own name.
    pub async fn open(
        args: ApiArgs<'_>,
        (paths, id): (&Paths, &str),
        raw: Store,
        resources: &[Descriptor],
    ) -> Result<(Self, Store), String> {
        let (config, own) = load(args, paths)?;
        let encryption = Encryption::new(&config, resources)?;
        encryption.identify(id, &config);
        encryption.start().await;
        let follow = args.encryption_config().filter(|_| args.reloads());
        let follow = follow.map(|path| FileReload::new(path.into(), &config));
        if follow.is_some() {
            encryption.reloads();
        }
        let store = encryption.over(raw.clone());
        let keeper = Self {
            encryption,
            raw,
            own,
            follow: parking_lot::Mutex::new(follow),
            rotating: Mutex::new(()),
        };
        Ok((keeper, store))
    }

    /// What the API server is given.
    pub fn encryption(&self) -> Encryption {
        self.encryption.clone()
    }

    /// Follows the user's file, if it is to be followed, until the end.
    pub async fn run(self: std::sync::Arc<Self>, shutdown: watch::Receiver<bool>) {
        let file = self.follow.lock().take();
        if let Some(file) = file {
            self.encryption.clone().follow(file, shutdown).await;
        }
    }

    /// Makes a new key, seals everything with it, and forgets the old ones. A crash at any point leaves a
    /// file with every key that is still needed; rotating again finishes it.
    pub async fn rotate(&self) -> Result<Value, String> {
        let _one = self.rotating.lock().await;
        let Some(path) = &self.own else {
            // The user's file: they have put the new key first and restarted; what is left is to use it.
            let done = self.encryption.reseal(&self.raw).await;
            let done = done.map_err(|e| e.to_string())?;
            return Ok(json!({"resealed": done}));
        };
        let text = pki::file::read(path).map_err(|e| e.to_string())?;
        let before = EncryptionConfig::parse(&text.unwrap_or_default())?;
        let new = new_key(jiff::Timestamp::now()).map_err(|e| e.to_string())?;
        let mut keys = vec![new.clone()];
        let old = before.own_keys();
        keys.extend_from_slice(old.ok_or("the node's own file has no keys of its own making")?);
        let both = EncryptionConfig::of_secrets(keys);
        write(path, &both)?;
        self.encryption.replace(&both).await?;
        let done = self.encryption.reseal(&self.raw).await;
        let done = done.map_err(|e| e.to_string())?;
        let one = EncryptionConfig::of_secrets(vec![new]);
        write(path, &one)?;
        self.encryption.replace(&one).await?;
        Ok(json!({"resealed": done}))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use store::sqlite::Sqlite;

    use super::*;

    #[tokio::test]
    async fn secrets_are_sealed_with_a_key_that_can_be_rotated() {
        let dir = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(dir.path());
        pki::file::make_dir(&paths.pki(), 0o755).expect("a folder");
        let (tell, _fatal) = tokio::sync::oneshot::channel();
        let sqlite = Sqlite::open(&dir.path().join("state.db"), tell).expect("a store");
        let raw = Store::new(sqlite);
        let args = BTreeMap::new();
        let kinds = resources::all(&resources::Options::default());
        let open = || async {
            let opened = Keeper::open(ApiArgs(&args), (&paths, "me"), raw.clone(), &kinds);
            opened.await.expect("keys")
        };
        let (keeper, store) = open().await;
        let (secret, other) = ("/registry/secrets/n/s", "/registry/configmaps/n/c");
        for key in [secret, other] {
            let value = Bytes::from_static(b"{\"a\":1}");
            store.create(key.into(), value, 0).await.expect("a write");
        }
        let stored = |key: &'static str| {
            let raw = raw.clone();
            async move { raw.get(key).await.expect("a read").expect("a value").value }
        };
        let first = stored(secret).await;
        assert!(first.starts_with(b"k8s:enc:secretbox:v1:key-"), "{first:?}");
        assert_eq!(stored(other).await, "{\"a\":1}");
        assert_eq!(
            keeper.rotate().await.expect("a rotation"),
            json!({"resealed": 1})
        );
        let second = stored(secret).await;
        assert!(second.starts_with(b"k8s:enc:secretbox:v1:key-"));
        assert_ne!(first[..40], second[..40]);
        // A node that starts anew reads its file, which others must not.
        let (_, again) = open().await;
        let found = again.get(secret).await.expect("a read").expect("a value");
        assert_eq!(found.value, "{\"a\":1}");
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(paths.encryption()).expect("a file");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}
