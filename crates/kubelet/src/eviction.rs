//! Pressure on memory and disk: conditions, freeing, and which pod has to go.
//! Upstream: pkg/kubelet/eviction.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::core::v1::Pod;
use api::quantity::{Format, Quantity};
use client::EventType;
use tokio::time::Instant;

use crate::config::Eviction;
use crate::kubelet::Kubelet;
use crate::limits;
use crate::node::facts::meminfo;
use crate::pod;
use crate::resources::{self, Side};
use crate::status::Verdict;
use crate::worker::PodWorker;

/// A resource below its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// As messages name it: `memory`, `ephemeral-storage`, `inodes`.
    pub resource: &'static str,
    pub condition: &'static str,
    pub threshold: u64,
    pub available: u64,
}

/// What is left of the node's resources.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    pub memory: u64,
    pub node_fs: linux::volume::Usage,
    pub image_capacity: u64,
    pub image_available: u64,
}

/// Which thresholds are crossed, memory first.
pub fn shortages(left: &Left, e: &Eviction) -> Vec<Shortage> {
    let percent = |whole: u64, part: u64| whole / 100 * part;
    let all = [
        (
            "memory",
            "MemoryPressure",
            e.memory_available,
            left.memory,
            true,
        ),
        (
            "ephemeral-storage",
            "DiskPressure",
            percent(left.node_fs.capacity, e.nodefs_percent),
            left.node_fs.available,
            left.node_fs.capacity > 0,
        ),
        (
            "inodes",
            "DiskPressure",
            percent(left.node_fs.inodes, e.inodes_percent),
            left.node_fs.inodes_free,
            left.node_fs.inodes > 0,
        ),
        (
            "ephemeral-storage",
            "DiskPressure",
            percent(left.image_capacity, e.imagefs_percent),
            left.image_available,
            left.image_capacity > 0,
        ),
    ];
    all.into_iter()
        .filter(|(_, _, threshold, available, known)| *known && available < threshold)
        .map(|(resource, condition, threshold, available, _)| Shortage {
            resource,
            condition,
            threshold,
            available,
        })
        .collect()
}

/// A pod as the ranking sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub uid: String,
    pub critical: bool,
    pub priority: i32,
    pub usage: u64,
    pub request: u64,
}

/// Who goes first: those above their request, then low priority, then the largest excess.
pub fn rank(mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.retain(|c| !c.critical);
    all.sort_by_key(|c| {
        let excess = i128::from(c.usage) - i128::from(c.request);
        (excess <= 0, c.priority, std::cmp::Reverse(excess))
    });
    all
}

/// Watches for ever.
pub(crate) async fn run(kubelet: Arc<Kubelet>) {
    let Some(thresholds) = kubelet.config.eviction.clone() else {
        return;
    };
    loop {
        local_storage(&kubelet).await;
        let found = shortages(&measure(&kubelet).await, &thresholds);
        {
            let mut pressure = kubelet.node_status.lock();
            for s in &found {
                pressure.seen.insert(s.condition, Instant::now());
            }
        }
        if let Some(first) = found.first() {
            reclaim(&kubelet, first, &thresholds).await;
        }
        tokio::time::sleep(limits::EVICTION_CHECK).await;
    }
}

async fn measure(kubelet: &Kubelet) -> Left {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let images = kubelet
        .images
        .store()
        .image_fs_info()
        .await
        .unwrap_or_default();
    Left {
        memory: meminfo(&text, "MemAvailable"),
        node_fs: linux::volume::usage(&kubelet.config.root_dir).unwrap_or_default(),
        image_capacity: images.capacity_bytes,
        image_available: images.available_bytes,
    }
}

async fn reclaim(kubelet: &Arc<Kubelet>, s: &Shortage, thresholds: &Eviction) {
    let text = format!("Attempting to reclaim {}", s.resource);
    kubelet.node_event(EventType::Warning, "EvictionThresholdMet", &text);
    tracing::warn!(
        resource = s.resource,
        available = s.available,
        threshold = s.threshold,
        "eviction threshold met: no new pods until more is free"
    );
    if s.condition == "DiskPressure" {
        crate::image_gc::free(kubelet, u64::MAX).await;
        let again = shortages(&measure(kubelet).await, thresholds);
        if !again.iter().any(|a| a.condition == s.condition) {
            return;
        }
    }
    let workers: Vec<Arc<PodWorker>> = kubelet.workers.read().values().cloned().collect();
    let usage = usage_by_pod(kubelet, s.resource).await;
    let candidates = workers
        .iter()
        .filter(|w| w.is_active() && !w.stopping.is_cancelled());
    let candidates: Vec<Candidate> = candidates
        .map(|w| {
            let p = w.pod();
            let amounts = resources::pod_amounts(&p, Side::Requests);
            let request = amounts.get(s.resource).map_or(0, Quantity::value);
            Candidate {
                uid: w.uid.clone(),
                critical: pod::is_critical(&p),
                priority: pod::spec(&p).priority.unwrap_or(0),
                usage: usage.get(&w.uid).copied().unwrap_or(0),
                request: u64::try_from(request).unwrap_or(0),
            }
        })
        .collect();
    let Some(first) = rank(candidates).into_iter().next() else {
        return;
    };
    let Some(worker) = kubelet.worker(&first.uid) else {
        return;
    };
    let bytes = |n: u64| Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::BinarySi);
    let mut message = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        s.resource,
        bytes(s.threshold),
        printed(s.available)
    );
    if first.usage > first.request {
        message.push_str(&over_request(&worker.pod(), s.resource, first.usage));
    }
    evict(kubelet, &worker, message, true);
}

/// Kibibytes, as upstream prints what is left.
fn printed(n: u64) -> String {
    format!("{}Ki", n / 1024)
}

fn over_request(p: &Pod, resource: &str, usage: u64) -> String {
    let containers = pod::containers(p);
    let [c] = containers else {
        return format!(
            "Pod {} was using {}, request is {}, has larger consumption of {resource}. ",
            pod::name(p),
            printed(usage),
            resources::pod_amounts(p, Side::Requests)
                .get(resource)
                .map_or_else(|| "0".into(), ToString::to_string)
        );
    };
    let request = resources::amount(c.resources.as_ref(), Side::Requests, resource);
    format!(
        "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
        c.name,
        printed(usage),
        request.map_or_else(|| "0".into(), |q| q.to_string())
    )
}

async fn usage_by_pod(kubelet: &Kubelet, resource: &str) -> BTreeMap<String, u64> {
    let stats = kubelet
        .runtime
        .list_container_stats()
        .await
        .unwrap_or_default();
    let workers = kubelet.workers.read();
    let mut out = BTreeMap::new();
    for w in workers.values() {
        let seen = w.observed.borrow().clone();
        let own = stats
            .iter()
            .filter(|s| seen.containers.iter().any(|c| c.id == s.container_id));
        let total: u64 = own
            .map(|s| match resource {
                "memory" => s.memory_working_set_bytes,
                "inodes" => s.writable_layer_inodes,
                _ => s.writable_layer_bytes,
            })
            .sum();
        let volumes = if resource == "ephemeral-storage" {
            size_below(&kubelet.paths.pod(&w.uid))
        } else {
            0
        };
        out.insert(w.uid.clone(), total + volumes);
    }
    out
}

fn evict(kubelet: &Kubelet, worker: &PodWorker, message: String, disruption: bool) {
    let p = worker.pod();
    kubelet.event(&p, EventType::Warning, "Evicted", &message);
    tracing::warn!(pod = pod::format(&p), message, "pod evicted");
    let verdict = Verdict {
        reason: "Evicted".into(),
        message,
        disruption,
    };
    worker.evict(verdict, 1);
}

/// Pods that use more local storage than their own limits allow.
async fn local_storage(kubelet: &Arc<Kubelet>) {
    let workers: Vec<Arc<PodWorker>> = kubelet.workers.read().values().cloned().collect();
    let limited = workers.into_iter().filter(|w| has_storage_limit(&w.pod()));
    let limited: Vec<Arc<PodWorker>> = limited.filter(|w| w.is_active()).collect();
    if limited.is_empty() {
        return;
    }
    let stats = kubelet
        .runtime
        .list_container_stats()
        .await
        .unwrap_or_default();
    for w in limited {
        let p = w.pod();
        let layers: BTreeMap<String, u64> = {
            let seen = w.observed.borrow();
            let own = seen.containers.iter().filter_map(|c| {
                let s = stats.iter().find(|s| s.container_id == c.id)?;
                Some((c.metadata.name.clone(), s.writable_layer_bytes))
            });
            own.collect()
        };
        let base = kubelet
            .paths
            .pod(&w.uid)
            .join("volumes/kubernetes.io~empty-dir");
        if let Some(message) = over_limit(&p, &base, &layers) {
            evict(kubelet, &w, message, false);
        }
    }
}

fn has_storage_limit(p: &Pod) -> bool {
    let by_volume = pod::spec(p)
        .volumes
        .iter()
        .flatten()
        .any(|v| disk_limit(v).is_some());
    let limit = |c: &api::core::v1::Container| {
        resources::amount(c.resources.as_ref(), Side::Limits, "ephemeral-storage").is_some()
    };
    by_volume || pod::containers(p).iter().any(limit)
}

fn disk_limit(v: &api::core::v1::Volume) -> Option<Quantity> {
    let dir = v.empty_dir.as_ref()?;
    let on_disk = dir.medium.as_deref().unwrap_or_default().is_empty();
    let limit = dir.size_limit.as_ref().filter(|_| on_disk)?;
    Quantity::parse(&limit.0).ok().filter(|q| q.sign() > 0)
}

fn over_limit(p: &Pod, dirs: &Path, layers: &BTreeMap<String, u64>) -> Option<String> {
    let more = |used: u64, limit: &Quantity| i128::from(used) > i128::from(limit.value());
    for v in pod::spec(p).volumes.iter().flatten() {
        let Some(limit) = disk_limit(v) else { continue };
        if more(size_below(&dirs.join(&v.name)), &limit) {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit \"{limit}\". ",
                v.name
            ));
        }
    }
    for c in pod::containers(p) {
        let limit = resources::amount(c.resources.as_ref(), Side::Limits, "ephemeral-storage");
        let used = layers.get(&c.name).copied().unwrap_or(0);
        if let Some(limit) = limit.filter(|l| more(used, l)) {
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit \"{limit}\". ",
                c.name
            ));
        }
    }
    None
}

/// Bytes of files below a directory, without following links or leaving its filesystem.
fn size_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(root) = std::fs::symlink_metadata(dir) else {
        return 0;
    };
    let (mut total, mut open) = (0, vec![dir.to_path_buf()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != root.dev() {
                continue;
            }
            total += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn memory_comes_first_and_unknown_filesystems_do_not_count() {
        let left = Left {
            memory: 50 << 20,
            node_fs: linux::volume::Usage {
                capacity: 1000,
                available: 50,
                inodes: 1000,
                inodes_free: 500,
                ..Default::default()
            },
            ..Left::default()
        };
        let found = shortages(&left, &Eviction::default());
        let names: Vec<&str> = found.iter().map(|s| s.resource).collect();
        assert_eq!(names, ["memory", "ephemeral-storage"]);
    }

    #[test]
    fn ranking() {
        let one = |uid: &str, priority, usage, request| Candidate {
            uid: uid.into(),
            critical: uid == "critical",
            priority,
            usage,
            request,
        };
        let order = rank(vec![
            one("below", 0, 5, 10),
            one("critical", 0, 900, 0),
            one("little", 0, 20, 10),
            one("much", 0, 90, 10),
            one("important", 5, 500, 10),
        ]);
        let uids: Vec<&str> = order.iter().map(|c| c.uid.as_str()).collect();
        assert_eq!(uids, ["much", "little", "important", "below"]);
    }

    #[test]
    fn own_limits() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("v")).unwrap();
        std::fs::write(dir.path().join("v/f"), vec![1; 64 << 10]).unwrap();
        let p: Pod = serde_json::from_value(json!({"spec":{
            "volumes":[{"name":"v","emptyDir":{"sizeLimit":"10Ki"}}],
            "containers":[{"name":"c","resources":{"limits":{"ephemeral-storage":"1Ki"}}}]}}))
        .unwrap();
        let layers = BTreeMap::from([("c".to_string(), 4096)]);
        let text = over_limit(&p, dir.path(), &layers).unwrap();
        assert_eq!(
            text,
            "Usage of EmptyDir volume \"v\" exceeds the limit \"10Ki\". "
        );
        let text = over_limit(&p, Path::new("/none"), &layers).unwrap();
        assert_eq!(
            text,
            "Container c exceeded its local ephemeral storage limit \"1Ki\". "
        );
    }
}
