//! Which pods this node has: the API's pods with our name, admission, orphans of earlier lives.
//! Upstream: pkg/kubelet/config, kubelet syncLoop and housekeeping.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use api::certificates::v1::ClusterTrustBundle;
use api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Volume};
use client::{Change, ChangeKind, EventType, Kind, Lister};
use cri::ContainerEventKind;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;

use crate::admission::{self, NodeView, Rejection};
use crate::kubelet::Kubelet;
use crate::limits::RESUBSCRIBE;
use crate::paths::Paths;
use crate::pod;
use crate::pod_certificates;
use crate::static_pods;
use crate::status;
use crate::volumes;
use crate::worker::PodWorker;

/// Grace period of pods that the API no longer knows.
const ORPHAN_GRACE: i64 = 1;

/// Follows the API's pods for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let mut first = true;
    loop {
        let mut sub = kubelet.pods.subscribe();
        let mine = sub.snapshot.iter().filter(|e| is_mine(&kubelet, e));
        let mut pods: Vec<Arc<Pod>> = mine.filter_map(|e| client::lister::typed(e)).collect();
        pods.sort_by(|a, b| {
            let key = |p: &Pod| p.metadata.creation_timestamp.clone();
            key(a).cmp(&key(b))
        });
        let mut known: HashSet<String> = pods.iter().map(|p| pod::uid(p).to_string()).collect();
        let (of_files, others): (Vec<_>, Vec<_>) = kubelet
            .workers
            .read()
            .values()
            .cloned()
            .partition(|w| static_pods::is_static(&w.pod()));
        known.extend(of_files.iter().map(|w| w.uid.clone()));
        let gone = others.iter().filter(|w| !known.contains(&w.uid));
        gone.for_each(|w| w.removed());
        for p in pods {
            seen(&kubelet, p);
        }
        if std::mem::take(&mut first) {
            let k = kubelet.clone();
            tokio::spawn(async move { remove_orphans(&k, &known).await });
        }
        while let Some(change) = sub.changes.recv().await {
            handle(&kubelet, &change);
        }
        tokio::time::sleep(RESUBSCRIBE).await;
    }
}

fn is_mine(kubelet: &Kubelet, entry: &client::Entry) -> bool {
    let field = entry
        .fields
        .iter()
        .find(|(name, _)| *name == "spec.nodeName");
    match field {
        Some((_, node)) => **node == *kubelet.config.node_name,
        None => client::lister::typed::<Pod>(entry).is_some_and(|p| {
            pod::spec(&p).node_name.as_deref() == Some(kubelet.config.node_name.as_str())
        }),
    }
}

fn handle(kubelet: &Arc<Kubelet>, change: &Change) {
    if change.kind == ChangeKind::Deleted {
        if is_mine(kubelet, &change.entry)
            && let Some(p) = client::lister::typed::<Pod>(&change.entry)
            && static_pods::mirrored(&p).is_some()
        {
            return static_pods::removed(kubelet, &p);
        }
        if let Some(worker) = kubelet.worker(&change.entry.uid) {
            worker.removed();
        }
        return;
    }
    if is_mine(kubelet, &change.entry)
        && let Some(p) = client::lister::typed::<Pod>(&change.entry)
    {
        seen(kubelet, p);
    }
}

/// A pod of ours was made or changed.
pub(crate) fn seen(kubelet: &Arc<Kubelet>, p: Arc<Pod>) {
    if static_pods::mirrored(&p).is_some() {
        return static_pods::changed(kubelet, &p);
    }
    if let Some(worker) = kubelet.worker(pod::uid(&p)) {
        worker.update(p);
        return;
    }
    let ended = p.metadata.deletion_timestamp.is_some() || pod::is_terminal(pod::phase(&p));
    let rejected = if ended { None } else { refuse(kubelet, &p) };
    let uid = pod::uid(&p).to_string();
    let worker = PodWorker::new(kubelet.clone(), p, rejected);
    kubelet.workers.write().insert(uid, worker.clone());
    worker.spawn();
}

/// The status of a pod that the node does not take; `None` for one that it takes.
fn refuse(kubelet: &Kubelet, p: &Pod) -> Option<api::core::v1::PodStatus> {
    let Err(r) = fits(kubelet, p) else {
        return None;
    };
    kubelet.event(p, EventType::Warning, &r.reason, &r.message);
    Some(status::rejected(p, &r.reason, &r.message, Timestamp::now()))
}

/// Whether a pod fits beside the others.
pub(crate) fn fits(kubelet: &Kubelet, p: &Pod) -> Result<(), Rejection> {
    let active: Vec<Arc<Pod>> = {
        let workers = kubelet.workers.read();
        let others = workers.values().filter(|w| w.uid != pod::uid(p));
        let active = others.filter(|w| w.is_active());
        active.map(|w| w.pod()).collect()
    };
    let others: Vec<&Pod> = active.iter().map(AsRef::as_ref).collect();
    let node = kubelet.node();
    let pressure = kubelet.node_status.lock().active();
    let view = NodeView {
        node: node.as_deref(),
        name: &kubelet.config.node_name,
        allocatable: &kubelet.facts.allocatable,
        pressure: &pressure,
    };
    admission::admit(p, &view, &others)
}

/// A worker ended.
pub(crate) fn forget(kubelet: &Arc<Kubelet>, uid: &str) {
    kubelet.workers.write().remove(uid);
    let workers = kubelet.workers.read();
    let known = |uid: &str| workers.contains_key(uid);
    kubelet.images.retain(known);
    kubelet.tokens.retain(known);
    kubelet.certificates.retain(known);
    kubelet.probe_counts.lock().retain(|key, _| known(&key.0));
    let rest: Vec<Arc<PodWorker>> = workers.values().cloned().collect();
    drop(workers);
    rest.iter().for_each(|w| w.retry_resize());
    // A static pod may have waited for its predecessor's end.
    static_pods::reconcile(kubelet);
}

/// Ends what runs for pods that the API no longer has, and removes what they left.
async fn remove_orphans(kubelet: &Kubelet, known: &HashSet<String>) {
    match kubelet.runtime.list_pod_sandboxes().await {
        Ok(sandboxes) => {
            for s in sandboxes
                .iter()
                .filter(|s| !known.contains(&s.metadata.uid))
            {
                if let Err(error) = remove_sandbox(kubelet, &s.id).await {
                    tracing::warn!(%error, sandbox = s.id, "orphaned pod not removed");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "orphaned pods not looked for"),
    }
    let uids = std::fs::read_dir(kubelet.paths.pods())
        .into_iter()
        .flatten()
        .flatten();
    for entry in uids {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if known.contains(&uid) || kubelet.worker(&uid).is_some() {
            continue;
        }
        for error in volumes::teardown(kubelet, &uid) {
            tracing::warn!(error, uid, "orphaned pod directory not removed");
        }
    }
    let logs = std::fs::read_dir(&kubelet.paths.pod_logs)
        .into_iter()
        .flatten()
        .flatten();
    for entry in logs {
        let name = entry.file_name().to_string_lossy().into_owned();
        let uid = name.rsplit('_').next().unwrap_or_default();
        let ours = name.split('_').count() == 3;
        if ours && !known.contains(uid) && kubelet.worker(uid).is_none() {
            remove_log_dir(&kubelet.paths, &entry.path());
        }
    }
}

async fn remove_sandbox(kubelet: &Kubelet, id: &str) -> Result<(), cri::Error> {
    let containers = kubelet.runtime.list_containers().await?;
    for c in containers.iter().filter(|c| c.sandbox_id == id) {
        kubelet.runtime.stop_container(&c.id, ORPHAN_GRACE).await?;
        kubelet.runtime.remove_container(&c.id).await?;
    }
    kubelet.runtime.stop_pod_sandbox(id).await?;
    kubelet.runtime.remove_pod_sandbox(id).await
}

/// Removes the logs of a pod and the links to them.
pub(crate) fn remove_log_dir(paths: &Paths, dir: &Path) {
    let links = std::fs::read_dir(&paths.container_logs)
        .into_iter()
        .flatten()
        .flatten();
    for link in links {
        let target = std::fs::read_link(link.path());
        if target.is_ok_and(|t| t.starts_with(dir)) {
            remove_file(&link.path());
        }
    }
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "logs not removed");
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, path = %path.display(), "file not removed");
    }
}

/// Wakes pods whose containers or sandboxes changed.
pub(crate) async fn follow_runtime(kubelet: Arc<Kubelet>) {
    let mut events = kubelet.runtime.events();
    loop {
        match events.recv().await {
            Ok(e) if e.kind == ContainerEventKind::Created => {}
            Ok(e) => {
                if let Some(worker) = kubelet.worker(&e.pod_uid) {
                    worker.wake();
                }
            }
            Err(RecvError::Lagged(_)) => kubelet.workers.read().values().for_each(|w| w.wake()),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Wakes pods whose ConfigMaps, Secrets, trust bundles and claims changed.
pub(crate) async fn follow_objects(kubelet: Arc<Kubelet>) {
    let maps = follow::<ConfigMap>(&kubelet, |p, name| refers(p, "configMap", name));
    let secrets = follow::<Secret>(&kubelet, |p, name| refers(p, "secret", name));
    let claims = follow::<PersistentVolumeClaim>(&kubelet, |p, name| {
        let all = pod::spec(p).volumes.iter().flatten();
        all.into_iter()
            .any(|v| claim_of(p, v).as_deref() == Some(name))
    });
    let volumes = follow::<PersistentVolume>(&kubelet, |p, _| {
        let all = pod::spec(p).volumes.iter().flatten();
        all.into_iter().any(|v| claim_of(p, v).is_some())
    });
    let bundles = follow::<ClusterTrustBundle>(&kubelet, |p, _| trusts(p));
    let certificates = pod_certificates::follow(&kubelet);
    tokio::join!(maps, secrets, claims, volumes, bundles, certificates);
}

/// Whether a pod projects trust bundles.
fn trusts(p: &Pod) -> bool {
    let volumes = pod::spec(p).volumes.iter().flatten();
    let projected = volumes.filter_map(|v| v.projected.as_ref()?.sources.as_ref());
    projected
        .flatten()
        .any(|s| s.cluster_trust_bundle.is_some())
}

fn claim_of(p: &Pod, v: &Volume) -> Option<String> {
    if let Some(c) = &v.persistent_volume_claim {
        return Some(c.claim_name.clone());
    }
    let own = v.ephemeral.as_ref();
    own.map(|_| format!("{}-{}", pod::name(p), v.name))
}

async fn follow<K: Kind + api::k8s_openapi::Resource>(
    kubelet: &Kubelet,
    uses: impl Fn(&Pod, &str) -> bool,
) {
    let Ok(lister): Result<Lister<K>, _> = kubelet.client.lister() else {
        return;
    };
    loop {
        let mut sub = lister.subscribe();
        while let Some(change) = sub.changes.recv().await {
            let (ns, name) = (&*change.entry.namespace, &*change.entry.name);
            for worker in kubelet.workers.read().values() {
                let p = worker.pod();
                if (ns.is_empty() || pod::namespace(&p) == ns) && uses(&p, name) {
                    worker.wake();
                }
            }
        }
        tokio::time::sleep(RESUBSCRIBE).await;
        kubelet.workers.read().values().for_each(|w| w.wake());
    }
}

/// Whether a pod names a ConfigMap or Secret in a volume or an environment.
fn refers(p: &Pod, kind: &str, name: &str) -> bool {
    let map = kind == "configMap";
    let in_volume = pod::spec(p).volumes.iter().flatten().any(|v| {
        let projected = v.projected.as_ref().and_then(|p| p.sources.as_ref());
        let direct = if map {
            v.config_map.as_ref().map(|c| c.name.as_str())
        } else {
            v.secret.as_ref().and_then(|s| s.secret_name.as_deref())
        };
        direct == Some(name)
            || projected.into_iter().flatten().any(|s| {
                let named = if map {
                    s.config_map.as_ref().map(|c| c.name.as_str())
                } else {
                    s.secret.as_ref().map(|c| c.name.as_str())
                };
                named == Some(name)
            })
    });
    in_volume
        || pod::all_containers(p)
            .iter()
            .any(|c| env_refers(&c.container, map, name))
}

fn env_refers(c: &api::core::v1::Container, map: bool, name: &str) -> bool {
    let from = c.env_from.iter().flatten().any(|f| {
        let named = if map {
            f.config_map_ref.as_ref().map(|r| r.name.as_str())
        } else {
            f.secret_ref.as_ref().map(|r| r.name.as_str())
        };
        named == Some(name)
    });
    let keys = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
    from || keys.into_iter().any(|v| {
        let named = if map {
            v.config_map_key_ref.as_ref().map(|r| r.name.as_str())
        } else {
            v.secret_key_ref.as_ref().map(|r| r.name.as_str())
        };
        named == Some(name)
    })
}
