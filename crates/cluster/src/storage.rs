//! Opens the store that `spec.storage` names. Upstream: k0s pkg/component/controller/{etcd,kine}.go.

use std::path::{Path, PathBuf};

use store::Store;
use store::etcd::{Etcd, EtcdConfig};
use store::kine::{Kine, KineConfig};
use store::sqlite::Sqlite;
use tokio::sync::oneshot;

use crate::config::{self, ExternalEtcd, Storage};
use crate::node::{Error, failed};
use crate::paths::Paths;

/// Resolves with the reason when the store cannot go on.
pub type Fatal = Option<oneshot::Receiver<String>>;

/// Opens it.
pub async fn open(storage: &Storage, paths: &Paths) -> Result<(Store, Fatal), Error> {
    let external = storage
        .etcd
        .as_ref()
        .and_then(|e| e.external_cluster.as_ref());
    if let Some(external) = external {
        return Ok((etcd(external).await?, None));
    }
    if storage.kind == "etcd" {
        let why = "spec.storage.type etcd without externalCluster (an etcd that k0s runs itself) is not supported yet; use kine or an externalCluster";
        return Err(failed("open the store")(&why));
    }
    let kine = storage.kine.clone().unwrap_or_default();
    let source = kine.data_source.as_str();
    if Kine::takes(source) {
        let kine = Kine::open(kine_config(&kine))
            .await
            .map_err(|e| failed("open the store")(&e))?;
        return Ok((Store::new(kine), None));
    }
    let path = sqlite(source, paths).ok_or_else(|| {
        let scheme = source.split("://").next().unwrap_or("");
        let why = format!("spec.storage.kine.dataSource {scheme}:// is not supported");
        failed("open the store")(&why)
    })?;
    let (tell, fatal) = oneshot::channel();
    let sqlite = Sqlite::open(&path, tell).map_err(|e| failed("open the store")(&e))?;
    Ok((Store::new(sqlite), Some(fatal)))
}

/// The flags of kine that say how to reach the database; the others are of programs that are not here.
fn kine_config(kine: &config::Kine) -> KineConfig {
    let mut config = KineConfig {
        data_source: kine.data_source.clone(),
        ..KineConfig::default()
    };
    for (flag, value) in &kine.extra_args {
        let file = Some(PathBuf::from(value)).filter(|f| !f.as_os_str().is_empty());
        match flag.as_str() {
            "ca-file" => config.ca_file = file,
            "cert-file" => config.cert_file = file,
            "key-file" => config.key_file = file,
            _ => tracing::warn!(flag, "spec.storage.kine.extraArgs: the flag has no effect"),
        }
    }
    config
}

async fn etcd(external: &ExternalEtcd) -> Result<Store, Error> {
    let read = |path: &str| -> Result<Option<Vec<u8>>, Error> {
        if path.is_empty() {
            return Ok(None);
        }
        let data = std::fs::read(path);
        data.map(Some)
            .map_err(|e| failed("read etcd's certificates")(&format!("{path}: {e}")))
    };
    let pair = (
        read(&external.client_cert_file)?,
        read(&external.client_key_file)?,
    );
    let identity = match pair {
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => None,
    };
    let config = EtcdConfig {
        endpoints: external.endpoints.clone(),
        // As kube-apiserver's --etcd-prefix, which k0s hands it to.
        prefix: match external.etcd_prefix.trim_matches('/') {
            "" => "/".into(),
            prefix => format!("/{prefix}/"),
        },
        replaces: "/registry/".into(),
        ca: read(&external.ca_file)?,
        identity,
    };
    let etcd = Etcd::connect(config).await;
    Ok(Store::new(etcd.map_err(|e| failed("connect to etcd")(&e))?))
}

/// The file of a data source of SQLite (`sqlite://file:/path?mode=rwc…`), whose options are ours to choose; the
/// data directory's where none is named, nothing for another driver.
fn sqlite(source: &str, paths: &Paths) -> Option<PathBuf> {
    let rest = if source.is_empty() {
        ""
    } else {
        source.strip_prefix("sqlite://")?
    };
    let rest = rest.strip_prefix("file:").unwrap_or(rest);
    let path = Path::new(rest.split('?').next().unwrap_or(rest));
    Some(if path.as_os_str().is_empty() {
        paths.database()
    } else {
        // k0s runs kine in its data directory.
        paths.data.join(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_sources_name_their_file() {
        let paths = Paths::new(Path::new("/data"));
        for (source, file) in [
            ("", "/data/db/state.db"),
            ("sqlite://", "/data/db/state.db"),
            (
                "sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL",
                "/var/lib/k0s/db/state.db",
            ),
            ("sqlite:///other/state.db", "/other/state.db"),
            ("sqlite://file:db/x.db?cache=shared", "/data/db/x.db"),
        ] {
            assert_eq!(sqlite(source, &paths), Some(file.into()), "{source}");
        }
        assert_eq!(sqlite("nats://x", &paths), None);
    }
}
