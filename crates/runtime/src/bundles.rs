//! Air-gap bundles: every file in a folder is imported at start and again when it changes. Follows k0s'
//! OCI bundle reconciler: errors are logged, the next file is tried.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::ImageStore;
use tokio_util::sync::CancellationToken;

/// How long a folder must rest after a change: a bundle is still being copied before.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two looks at the folder; what is unchanged costs a stat.
const RESCAN: Duration = Duration::from_secs(10);

/// Imports all bundles of a folder that are new or changed; gives the names of the images. A folder that is not there
/// is an empty one.
pub async fn import_all(store: &ImageStore, folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in files(folder) {
        match store.import_bundle(&path).await {
            Ok(None) => {}
            Ok(Some(imported)) => {
                tracing::info!(bundle = %path.display(), images = imported.len(), "imported a bundle of images");
                names.extend(imported);
            }
            Err(error) => {
                tracing::error!(bundle = %path.display(), %error, "a bundle of images cannot be imported");
            }
        }
    }
    names
}

/// Imports what comes into a folder until told to stop.
pub async fn watch(store: ImageStore, folder: PathBuf, stop: CancellationToken) {
    let mut seen = state(&folder);
    import_all(&store, &folder).await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RESCAN) => {}
        }
        let mut now = state(&folder);
        if now == seen {
            continue;
        }
        // Wait until it no longer changes.
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SETTLE) => {}
            }
            let later = state(&folder);
            if later == now {
                break;
            }
            now = later;
        }
        import_all(&store, &folder).await;
        seen = now;
    }
}

/// Files of a folder, by name; folders, hidden files and the like are left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "the folder of image bundles cannot be read");
            return Vec::new();
        }
    };
    let hidden = |p: &Path| {
        p.file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| !hidden(p) && p.is_file())
        .collect();
    paths.sort();
    paths
}

/// What tells whether something changed.
fn state(folder: &Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    files(folder)
        .into_iter()
        .filter_map(|path| {
            let meta = std::fs::metadata(&path).ok()?;
            Some((path, meta.len(), meta.modified().ok()))
        })
        .collect()
}
