//! Pods that files of a folder describe, and their mirrors in the API. Upstream: pkg/kubelet/config/file.go,
//! common.go, pkg/kubelet/pod/mirror_client.go. Not done: pods from a URL.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::core::v1::{Node, Pod, Toleration};
use api::meta::OwnerReference;
use client::api::PostParams;
use jiff::Timestamp;
use linux::inotify::{ENTRIES, Interest, Watch};
use parking_lot::Mutex;
use serde_json::Value;

use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod;
use crate::worker::PodWorker;

const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";
const HASH: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What the API server would do with a pod that a file describes.
pub trait PodRules: Send + Sync {
    /// Reads a manifest and adds the defaults.
    fn decode(&self, text: &str) -> Result<Value, String>;
    /// What is wrong with a pod.
    fn problems(&self, p: &Value) -> Vec<String>;
}

/// Where static pods come from.
#[derive(Clone)]
pub struct StaticPods {
    /// A folder of manifests, or one file.
    pub path: PathBuf,
    pub rules: Arc<dyn PodRules>,
}

type FullName = (String, String);

/// The static pods that files ask for now.
#[derive(Default)]
pub struct Wanted(Mutex<BTreeMap<FullName, Arc<Pod>>>);

/// Whether a pod comes from a file. Pods of the API cannot pretend it: their uids have hyphens.
pub fn is_static(p: &Pod) -> bool {
    let uid = pod::uid(p);
    annotation(p, HASH) == Some(uid) && !uid.is_empty() && !uid.contains('-')
}

/// Of which static pod (its uid) an API pod is the mirror.
pub fn mirrored(p: &Pod) -> Option<&str> {
    annotation(p, MIRROR)
}

fn annotation<'a>(p: &'a Pod, key: &str) -> Option<&'a str> {
    let all = p.metadata.annotations.as_ref()?;
    all.get(key).map(String::as_str)
}

fn full_name(p: &Pod) -> FullName {
    (pod::namespace(p).into(), pod::name(p).into())
}

// === Files ===

/// Looks at the folder for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let Some(source) = kubelet.config.static_pods.clone() else {
        return std::future::pending().await;
    };
    let mut watch: Option<Watch> = None;
    loop {
        if watch.is_none() {
            watch = open(&source.path);
            // What changed before is not told.
            read(&kubelet);
        }
        let told = async {
            match &watch {
                Some(watch) => watch.next().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let good = tokio::select! {
            good = told => good,
            () = tokio::time::sleep(limits::STATIC_PODS_CHECK) => true,
        };
        if !good {
            watch = None;
        }
        read(&kubelet);
    }
}

/// Watches for files that are whole or gone; one that is still written says nothing.
fn open(path: &Path) -> Option<Watch> {
    let watch = Watch::new().ok()?;
    match watch.add(path, ENTRIES.difference(Interest::CREATE)) {
        Ok(_) => Some(watch),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "static pods are not watched");
            None
        }
    }
}

/// Reads all files and starts and ends what they say.
pub(crate) fn read(kubelet: &Arc<Kubelet>) {
    let Some(source) = &kubelet.config.static_pods else {
        return;
    };
    let mut wanted: BTreeMap<FullName, Arc<Pod>> = BTreeMap::new();
    for path in files(&source.path) {
        match load(kubelet, source, &path) {
            Ok(p) => {
                let name = full_name(&p);
                if wanted.contains_key(&name) {
                    let (path, name) = (path.display(), &name.1);
                    tracing::warn!(%path, name, "static pod ignored: another file has its name");
                    continue;
                }
                wanted.insert(name, Arc::new(p));
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "static pod ignored");
            }
        }
    }
    let mut known = kubelet.statics.0.lock();
    for (name, p) in &mut wanted {
        // The first reading's time stays.
        if let Some(old) = known.get(name).filter(|old| pod::uid(old) == pod::uid(p)) {
            *p = old.clone();
        }
    }
    *known = wanted;
    drop(known);
    reconcile(kubelet);
}

/// Files of a folder in order, but for hidden ones; or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.into()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .filter(|e| !e.file_name().to_string_lossy().starts_with('.'))
        .map(|e| e.path())
        .filter(|p| p.is_file())
        .collect();
    all.sort();
    all
}

fn load(kubelet: &Kubelet, source: &StaticPods, path: &Path) -> Result<Pod, String> {
    let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > limits::STATIC_POD_BYTES {
        return Err(format!("larger than {} bytes", limits::STATIC_POD_BYTES));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let value = source.rules.decode(&text)?;
    let place = path.display().to_string();
    let p = adapt(value, &kubelet.config.node_name, &place, Timestamp::now())?;
    let value = serde_json::to_value(&p).map_err(|e| e.to_string())?;
    let mut problems = source.rules.problems(&value);
    problems.extend(reference(&p).map(|what| format!("static pods may not reference {what}")));
    if problems.is_empty() {
        Ok(p)
    } else {
        Err(problems.join("; "))
    }
}

/// Gives a pod of a file its name on this node, its uid and its marks.
fn adapt(value: Value, node: &str, path: &str, now: Timestamp) -> Result<Pod, String> {
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("the manifest is not a v1 Pod".into());
    }
    let text = value.to_string();
    let mut p: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    // Upstream takes a uid that the file names.
    let uid = hash(&[&text, "host:", node, "file:", path]);
    let name = format!("{}-{}", pod::name(&p), node.to_lowercase());
    let meta = &mut p.metadata;
    meta.name = Some(name);
    meta.namespace.get_or_insert_with(|| "default".into());
    meta.uid = Some(uid.clone());
    meta.creation_timestamp = None;
    let notes = meta.annotations.get_or_insert_default();
    notes.insert(SOURCE.into(), "file".into());
    notes.insert(SEEN.into(), now.to_string());
    notes.insert(HASH.into(), uid);
    let spec = p.spec.get_or_insert_default();
    spec.node_name = Some(node.into());
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    });
    p.status.get_or_insert_default().phase = Some("Pending".into());
    Ok(p)
}

/// FNV-1a of 128 bits, in hexadecimal digits.
fn hash(parts: &[&str]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|p| p.bytes());
    let sum = bytes.fold(BASIS, |h, b| (h ^ u128::from(b)).wrapping_mul(PRIME));
    format!("{sum:032x}")
}

/// What a static pod may not refer to, as nobody may read it for it.
fn reference(p: &Pod) -> Option<&'static str> {
    let spec = pod::spec(p);
    if spec
        .service_account_name
        .as_deref()
        .is_some_and(|a| !a.is_empty())
    {
        return Some("serviceaccounts");
    }
    if spec.image_pull_secrets.iter().flatten().next().is_some() {
        return Some("secrets");
    }
    if spec.resource_claims.iter().flatten().next().is_some() {
        return Some("resourceclaims");
    }
    for c in pod::all_containers(p) {
        let sources = c.container.env.iter().flatten();
        let sources: Vec<_> = sources.filter_map(|e| e.value_from.as_ref()).collect();
        let from = || c.container.env_from.iter().flatten();
        if sources.iter().any(|s| s.secret_key_ref.is_some())
            || from().any(|f| f.secret_ref.is_some())
        {
            return Some("secrets");
        }
        if sources.iter().any(|s| s.config_map_key_ref.is_some())
            || from().any(|f| f.config_map_ref.is_some())
        {
            return Some("configmaps");
        }
    }
    let mut volumes = spec.volumes.iter().flatten();
    volumes.find_map(|v| {
        let direct = [
            (v.config_map.is_some(), "configmaps (via configmap volumes)"),
            (v.secret.is_some(), "secrets (via secret volumes)"),
            (v.csi.is_some(), "csidrivers (via CSI volumes)"),
            (
                v.persistent_volume_claim.is_some(),
                "persistentvolumeclaims",
            ),
            (
                v.ephemeral.is_some(),
                "persistentvolumeclaims (via ephemeral volumes)",
            ),
        ];
        let projected = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
        let projected = projected.flat_map(|s| {
            [
                (s.config_map.is_some(), "configmaps (via projected volumes)"),
                (s.secret.is_some(), "secrets (via projected volumes)"),
                (
                    s.service_account_token.is_some(),
                    "serviceaccounts (via projected volumes)",
                ),
                (s.cluster_trust_bundle.is_some(), "clustertrustbundles"),
                (s.pod_certificate.is_some(), "podcertificates"),
            ]
        });
        let mut all = direct.into_iter().chain(projected);
        all.find(|(is, _)| *is).map(|(_, text)| text)
    })
}

// === Workers ===

/// Starts pods that are wanted and have no worker, ends those that are not wanted any more. A pod whose
/// predecessor of the same name still ends has to wait.
pub(crate) fn reconcile(kubelet: &Arc<Kubelet>) {
    if kubelet.config.static_pods.is_none() {
        return;
    }
    let wanted = kubelet.statics.0.lock().clone();
    let workers: Vec<Arc<PodWorker>> = kubelet.workers.read().values().cloned().collect();
    let mut taken: HashSet<FullName> = HashSet::new();
    for worker in workers {
        let p = worker.pod();
        if !is_static(&p) {
            continue;
        }
        let name = full_name(&p);
        if wanted.get(&name).is_none_or(|w| pod::uid(w) != worker.uid) {
            worker.removed();
        }
        taken.insert(name);
    }
    for (name, p) in wanted {
        if !taken.contains(&name) {
            tracing::info!(pod = pod::format(&p), "static pod starts");
            crate::pods::seen(kubelet, p);
        }
    }
    for p in kubelet.pods.list(None) {
        let mine = pod::spec(&p).node_name.as_deref() == Some(kubelet.config.node_name.as_str());
        if mine && mirrored(&p).is_some() {
            changed(kubelet, &p);
        }
    }
}

/// The static pod's worker of that name.
fn worker_of(kubelet: &Kubelet, p: &Pod) -> Option<Arc<PodWorker>> {
    let name = full_name(p);
    let workers = kubelet.workers.read();
    let own = workers.values().find(|w| {
        let p = w.pod();
        is_static(&p) && full_name(&p) == name
    });
    own.cloned()
}

/// A mirror came or changed: its static pod looks at it; one without a static pod goes.
pub(crate) fn changed(kubelet: &Arc<Kubelet>, mirror: &Pod) {
    match worker_of(kubelet, mirror) {
        Some(worker) if is_good(mirror, &worker.uid) => worker.refresh(),
        Some(worker) => worker.wake(),
        None => {
            let (kubelet, mirror) = (kubelet.clone(), mirror.clone());
            tokio::spawn(async move {
                if let Err(error) = delete(&kubelet, &mirror).await {
                    tracing::warn!(
                        pod = pod::format(&mirror),
                        error,
                        "orphaned mirror pod not deleted"
                    );
                }
            });
        }
    }
}

/// A mirror is gone: its static pod makes another.
pub(crate) fn removed(kubelet: &Kubelet, mirror: &Pod) {
    if let Some(worker) = worker_of(kubelet, mirror) {
        worker.wake();
    }
}

// === Mirrors ===

fn is_good(mirror: &Pod, uid: &str) -> bool {
    mirrored(mirror) == Some(uid) && mirror.metadata.deletion_timestamp.is_none()
}

/// Makes sure that a static pod has its mirror.
pub(crate) async fn ensure_mirror(kubelet: &Kubelet, p: &Pod) -> Result<(), String> {
    if let Some(found) = kubelet.pods.get(pod::namespace(p), pod::name(p)) {
        if is_good(&found, pod::uid(p)) {
            return Ok(());
        }
        if mirrored(&found).is_none() {
            return Err("a pod of the API has the static pod's name".into());
        }
        delete(kubelet, &found).await?;
    }
    let node = kubelet.node();
    let node = node.filter(|n| n.metadata.deletion_timestamp.is_none());
    let node = node.ok_or("the node is not registered")?;
    let api = kubelet.client.namespaced::<Pod>(pod::namespace(p));
    match api.create(&PostParams::default(), &mirror(p, &node)).await {
        Ok(made) => {
            tracing::debug!(pod = pod::format(&made), "mirror pod made");
            Ok(())
        }
        // The cache has not seen it yet.
        Err(e) if client::is_already_exists(&e) => Ok(()),
        Err(e) => Err(client::message(&e)),
    }
}

/// The mirror of a static pod.
fn mirror(p: &Pod, node: &Node) -> Pod {
    let mut mirror = p.clone();
    let notes = mirror.metadata.annotations.get_or_insert_default();
    notes.insert(MIRROR.into(), pod::uid(p).into());
    mirror.metadata.uid = None;
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

async fn delete(kubelet: &Kubelet, mirror: &Pod) -> Result<(), String> {
    let done = kubelet
        .delete_now(mirror, mirror.metadata.uid.as_deref())
        .await;
    done.map_err(|e| client::message(&e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}})
    }

    fn adapted(value: Value) -> Pod {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        adapt(value, "Node", "/m/web.yaml", now).unwrap()
    }

    #[test]
    fn a_file_becomes_a_pod_of_this_node() {
        let p = adapted(manifest());
        assert_eq!(full_name(&p), ("default".into(), "web-node".into()));
        assert_eq!(
            (pod::uid(&p).len(), annotation(&p, HASH)),
            (32, p.metadata.uid.as_deref())
        );
        assert!(is_static(&p) && pod::is_critical(&p) && mirrored(&p).is_none());
        let mut other = manifest();
        other["spec"]["containers"][0]["image"] = json!("j");
        assert_ne!(pod::uid(&adapted(other)), pod::uid(&p));
        assert_eq!(adapted(manifest()), p);
    }

    #[test]
    fn a_mirror_names_its_pod_and_its_node() {
        let p = adapted(manifest());
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "node", "uid": "u"}})).unwrap();
        let m = mirror(&p, &node);
        assert!(!is_static(&m) && is_good(&m, pod::uid(&p)) && !is_good(&m, "other"));
        let owner = &m.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Node", "u"));
    }

    #[test]
    fn what_the_api_holds_is_out_of_reach() {
        let refers = |spec: Value| {
            let mut m = manifest();
            merge(&mut m["spec"], spec);
            reference(&adapted(m))
        };
        assert_eq!(refers(json!({})), None);
        assert_eq!(
            refers(json!({"serviceAccountName": "a"})),
            Some("serviceaccounts")
        );
        assert_eq!(
            refers(json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]})),
            Some("secrets (via secret volumes)")
        );
        assert_eq!(
            refers(
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "s"}}]}}]})
            ),
            Some("configmaps (via projected volumes)")
        );
    }

    fn merge(object: &mut Value, more: Value) {
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            object[key] = value;
        }
    }

    #[test]
    fn hashes_are_fnv() {
        assert_eq!(hash(&["a"]), "d228cb696f1a8caf78912b704e4a8964");
    }
}
