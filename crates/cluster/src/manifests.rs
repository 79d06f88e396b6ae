//! Manifest stacks: every folder of `<data-dir>/manifests` is a stack; what its `*.yaml` files say is
//! applied, what they no longer say is pruned. k0s: docs/manifests.md, pkg/applier.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use http::Method;
use linux::inotify::{self, Watch};
use machinery::Descriptor;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{limits, rest};
use plan::Id;
pub use plan::checksum;

/// Changes of files in between are taken together.
const SETTLE: Duration = Duration::from_millis(200);
/// The first retry of what failed; each further one waits twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// Why a stack is not what its folder says.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("no resource serves {kind} of {api_version}")]
    NotServed { api_version: String, kind: String },
    #[error(transparent)]
    Request(#[from] rest::Error),
}

/// Applies stacks until `shutdown` becomes true. `client` must be allowed everything.
pub async fn run(client: Client, root: PathBuf, mut shutdown: watch::Receiver<bool>) {
    let mut applied = BTreeSet::new();
    let mut retry = RETRY_FIRST;
    loop {
        let changes = follow(&root);
        let good = sync(&client, &root, &mut applied).await;
        let wait = if good { None } else { Some(retry) };
        retry = if good {
            RETRY_FIRST
        } else {
            (retry * 2).min(RETRY_LAST)
        };
        tokio::select! {
            _ = shutdown.wait_for(|s| *s) => return,
            () = changed(changes) => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Watches the root and every stack's folder.
fn follow(root: &Path) -> Option<Watch> {
    let begin = || -> std::io::Result<Watch> {
        let watch = Watch::new()?;
        watch.add(root, inotify::ENTRIES)?;
        for dir in std::fs::read_dir(root)?.flatten() {
            if dir.path().is_dir() {
                watch.add(&dir.path(), inotify::ENTRIES)?;
            }
        }
        Ok(watch)
    };
    match begin() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::error!(root = %root.display(), %error, "manifests are not watched");
            None
        }
    }
}

/// Returns when a file changed; without a watch, after the longest retry.
async fn changed(watch: Option<Watch>) {
    let Some(watch) = watch else {
        return tokio::time::sleep(RETRY_LAST).await;
    };
    if let Err(error) = watch.next().await {
        tracing::error!(%error, "manifests are not watched");
        tokio::time::sleep(RETRY_LAST).await;
    }
}

/// Makes all stacks what their folders say; `false` where something has to be tried again.
async fn sync(client: &Client, root: &Path, applied: &mut BTreeSet<String>) -> bool {
    let stacks = match stacks(root) {
        Ok(stacks) => stacks,
        Err(error) => {
            tracing::error!(root = %root.display(), %error, "manifests are not read");
            return false;
        }
    };
    let mut good = true;
    for (name, dir) in &stacks {
        match load(dir) {
            Ok(objects) => good &= apply(client, name, &objects).await,
            Err(error) => {
                // Half a stack would prune the other half.
                tracing::error!(stack = name, %error, "stack not applied");
                continue;
            }
        }
        applied.insert(name.clone());
    }
    let gone: Vec<String> = applied
        .iter()
        .filter(|s| !stacks.contains_key(*s))
        .cloned()
        .collect();
    for name in gone {
        let done = apply(client, &name, &[]).await;
        good &= done;
        if done {
            applied.remove(&name);
        }
    }
    good
}

fn stacks(root: &Path) -> std::io::Result<BTreeMap<String, PathBuf>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        if let (Ok(name), true) = (name, entry.path().is_dir()) {
            out.insert(name, entry.path());
        }
        if out.len() > limits::STACKS {
            return Err(std::io::Error::other("too many stacks"));
        }
    }
    Ok(out)
}

/// The objects of a stack's files, in the order they are applied.
fn load(dir: &Path) -> Result<Vec<Value>, Error> {
    let failed = |path: &Path, why: String| Error::File {
        path: path.to_path_buf(),
        why,
    };
    let entries = std::fs::read_dir(dir).map_err(|e| failed(dir, e.to_string()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml") && p.is_file())
        .collect();
    if files.len() > limits::MANIFESTS_PER_STACK {
        return Err(failed(dir, "too many files".into()));
    }
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let size = std::fs::metadata(&file).map_err(|e| failed(&file, e.to_string()))?;
        if size.len() > limits::MANIFEST_BYTES {
            return Err(failed(&file, "the file is too large".into()));
        }
        let text = std::fs::read_to_string(&file).map_err(|e| failed(&file, e.to_string()))?;
        objects.extend(plan::documents(&text).map_err(|why| failed(&file, why))?);
    }
    plan::order(&mut objects);
    Ok(objects)
}

/// Applies and prunes one stack.
async fn apply(client: &Client, stack: &str, objects: &[Value]) -> bool {
    let mut good = true;
    let mut wanted = BTreeSet::new();
    for manifest in objects {
        let done = match Target::of(client, manifest) {
            Ok(target) => {
                let done = apply_one(client, stack, &target).await;
                wanted.insert(target.id);
                done
            }
            Err(e) => Err(e),
        };
        if let Err(error) = done {
            let name = machinery::object::name(manifest);
            tracing::error!(stack, name, %error, "manifest not applied");
            good = false;
        }
    }
    for (path, id) in labelled(client, stack) {
        if wanted.contains(&id) {
            continue;
        }
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
        match rest::send(client, Method::DELETE, &path, Some(&options)).await {
            Ok(_) => tracing::info!(stack, path, "pruned"),
            Err(e) if client::is_not_found(&e.source) => {}
            Err(error) => {
                tracing::error!(stack, %error, "object not pruned");
                good = false;
            }
        }
    }
    good
}

/// Where an object of a manifest lives.
struct Target {
    manifest: Value,
    id: Id,
    collection: String,
}

impl Target {
    fn of(client: &Client, manifest: &Value) -> Result<Self, Error> {
        let mut manifest = manifest.clone();
        let (group, kind, _, _) = plan::id(&manifest);
        let api_version = machinery::object::str_at(&manifest, "apiVersion").to_string();
        let served = client.reads().resources();
        let found = served.iter().find(|d| d.group == group && d.kind == kind);
        let Some(d) = found else {
            return Err(Error::NotServed { api_version, kind });
        };
        if !d.namespaced() {
            machinery::object::remove(&mut manifest, "metadata.namespace");
        } else if machinery::object::namespace(&manifest).is_empty() {
            machinery::object::set(&mut manifest, "metadata.namespace", json!("default"));
        }
        let collection = collection(d, &api_version, machinery::object::namespace(&manifest));
        Ok(Self {
            id: plan::id(&manifest),
            manifest,
            collection,
        })
    }
}

async fn apply_one(client: &Client, stack: &str, target: &Target) -> Result<(), Error> {
    let marked = plan::mark(&target.manifest, stack);
    let path = format!("{}/{}", target.collection, target.id.3);
    let done = match rest::get(client, &path).await? {
        None => rest::send(client, Method::POST, &target.collection, Some(&marked)).await,
        Some(stored) if plan::is_applied(&stored, &marked) => return Ok(()),
        Some(stored) => {
            let patch = plan::patch(&stored, &marked);
            rest::send(client, Method::PATCH, &path, Some(&patch)).await
        }
    };
    Ok(done.map(drop)?)
}

/// The path of a kind's objects in a namespace.
fn collection(d: &Descriptor, api_version: &str, namespace: &str) -> String {
    let root = if d.group.is_empty() { "/api" } else { "/apis" };
    if d.namespaced() {
        format!("{root}/{api_version}/namespaces/{namespace}/{}", d.resource)
    } else {
        format!("{root}/{api_version}/{}", d.resource)
    }
}

/// Paths and ids of all objects that carry a stack's label.
fn labelled(client: &Client, stack: &str) -> Vec<(String, Id)> {
    let mut out = Vec::new();
    let served: Vec<Arc<Descriptor>> = client.reads().resources();
    for d in served.iter().filter(|d| d.stored) {
        let Some(cache) = client.reads().cache(&d.group_resource()) else {
            continue;
        };
        for entry in cache.list(None) {
            let label = entry.labels.get(plan::STACK_LABEL);
            if label.is_none_or(|l| &**l != stack) {
                continue;
            }
            let path = collection(d, &d.api_version(), &entry.namespace);
            let id = (
                d.group.to_string(),
                d.kind.to_string(),
                entry.namespace.to_string(),
                entry.name.to_string(),
            );
            out.push((format!("{path}/{}", entry.name), id));
        }
    }
    out
}
