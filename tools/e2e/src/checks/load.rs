//! Load on a node: writers that count only what was answered, and watchers that resume for ever. At the end everything
//! that was acknowledged is there and was told, once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::PATIENCE;
use crate::cluster::Cluster;

/// Writers at a time, each with a ConfigMap of its own.
const WRITERS: usize = 4;
/// Watchers at a time.
const WATCHERS: usize = 3;

/// Writers and watchers at work.
pub struct Load {
    runtime: Runtime,
    maps: Api<ConfigMap>,
    state: Arc<Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
    goal: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Result<()>>>,
    watchers: Vec<JoinHandle<Result<Writes>>>,
}

/// What is known at the end.
pub struct Done {
    pub writes: usize,
}

/// What the API acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Newest count of each writer's ConfigMap.
    counts: BTreeMap<String, u64>,
    /// Every write by its revision: whose, and its count.
    writes: Writes,
    /// When something was acknowledged last, and the longest time between two such moments.
    last: Option<Instant>,
    stall: Duration,
    /// What writers were told instead, newest last; some of it.
    refusals: Vec<String>,
}

/// Names and counts by revision.
type Writes = BTreeMap<u64, (String, u64)>;

/// Most refusals that are remembered.
const REFUSALS: usize = 1_000;

impl Acknowledged {
    fn refuse(&mut self, text: String) {
        if self.refusals.len() < REFUSALS {
            self.refusals.push(text);
        }
    }
}

impl Load {
    /// Starts on a node; the watchers begin before the first write.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let state = Arc::new(Mutex::new(Acknowledged::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let goal = Arc::new(AtomicU64::new(u64::MAX));
        let maps = runtime.block_on(client(cluster))?;
        let begin = runtime.block_on(maps.list(&ListParams::default()))?;
        let begin = begin.metadata.resource_version.context("no revision")?;
        let writers = (0..WRITERS)
            .map(|n| runtime.spawn(write(maps.clone(), n, state.clone(), stop.clone())))
            .collect();
        let watchers = (0..WATCHERS)
            .map(|_| runtime.spawn(watch(maps.clone(), begin.clone(), goal.clone())))
            .collect();
        Ok(Self {
            runtime,
            maps,
            state,
            stop,
            goal,
            writers,
            watchers,
        })
    }

    /// Fails unless every acknowledged write is there and revisions never went back.
    pub fn check(&self) -> Result<()> {
        self.runtime.block_on(check(&self.maps, &self.state))
    }

    /// Writes that were acknowledged so far.
    pub fn writes(&self) -> usize {
        self.state.lock().writes.len()
    }

    /// What writers were told since it was asked last.
    pub fn refusals(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().refusals)
    }

    /// The longest time without an acknowledged write since it was asked last.
    pub fn stall(&self) -> Duration {
        std::mem::take(&mut self.state.lock().stall)
    }

    /// Ends the load: all that was acknowledged is there and was told to every watcher.
    pub fn finish(self) -> Result<Done> {
        self.check()?;
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            self.runtime.block_on(writer)??;
        }
        let acknowledged = std::mem::take(&mut *self.state.lock());
        let newest = acknowledged.writes.keys().next_back().copied();
        self.goal
            .store(newest.unwrap_or_default(), Ordering::Relaxed);
        let mut told: Vec<Writes> = Vec::new();
        for watcher in self.watchers {
            let seen = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, watcher).await });
            let mut seen = seen.context("a watcher does not see the newest write")???;
            compare(&acknowledged.writes, &seen)?;
            seen.retain(|at, _| *at <= newest.unwrap_or_default());
            if let Some(first) = told.first() {
                ensure!(*first == seen, "watchers were told different things");
            }
            told.push(seen);
        }
        Ok(Done {
            writes: acknowledged.writes.len(),
        })
    }
}

async fn client(cluster: &Cluster) -> Result<Api<ConfigMap>> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Api::namespaced(kube::Client::try_from(config)?, "default"))
}

/// Counts up in one ConfigMap; only what was answered counts.
async fn write(
    maps: Api<ConfigMap>,
    n: usize,
    state: Arc<Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let name = format!("writer-{n}");
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let data = json!({"data": {"count": count.to_string()}});
        let done = if count == 1 {
            let object = json!({"metadata": {"name": name}, "data": {"count": "1"}});
            let object: ConfigMap = serde_json::from_value(object)?;
            maps.create(&PostParams::default(), &object).await
        } else {
            let patch = Patch::Merge(&data);
            maps.patch(&name, &PatchParams::default(), &patch).await
        };
        match done {
            Ok(map) => {
                let mut state = state.lock();
                let now = Instant::now();
                let before = state.last.replace(now).unwrap_or(now);
                state.stall = state.stall.max(now - before);
                state.counts.insert(name.clone(), count);
                state.writes.insert(revision(&map)?, (name.clone(), count));
            }
            // Refused, or killed under it: whether it was written is unknown; the next one says more.
            Err(e) => {
                state.lock().refuse(told(&e));
                if count == 1 && maps.get_opt(&name).await.ok().flatten().is_none() {
                    count = 0;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

/// An error as the server told it: code, reason and message.
fn told(e: &kube::Error) -> String {
    match e {
        kube::Error::Api(status) => {
            format!("{} {:?}: {}", status.code, status.reason, status.message)
        }
        other => other.to_string(),
    }
}

fn revision(map: &ConfigMap) -> Result<u64> {
    let text = map.metadata.resource_version.as_deref();
    Ok(text.context("no resourceVersion")?.parse()?)
}

/// Every acknowledged write is there, and revisions never went back.
async fn check(maps: &Api<ConfigMap>, state: &Mutex<Acknowledged>) -> Result<()> {
    let (known, newest) = {
        let state = state.lock();
        let newest = state.writes.keys().next_back().copied();
        (state.counts.clone(), newest.unwrap_or_default())
    };
    let list = maps.list(&ListParams::default()).await?;
    let at: u64 = list
        .metadata
        .resource_version
        .context("no revision")?
        .parse()?;
    ensure!(
        at >= newest,
        "revision {newest} was acknowledged, now it is {at}"
    );
    for (name, count) in known {
        let map = list
            .items
            .iter()
            .find(|m| m.metadata.name.as_deref() == Some(&name));
        let map = map.with_context(|| format!("{name} is gone"))?;
        let stored = map.data.as_ref().and_then(|d| d.get("count"));
        let stored: u64 = stored.context("no count")?.parse()?;
        ensure!(
            stored >= count,
            "{name}: {count} was acknowledged, {stored} is stored"
        );
    }
    Ok(())
}

/// Follows the ConfigMaps over all restarts from one revision on, always resuming after the last event, until
/// the goal is seen. Never lists; fails on a step back or a second event of a revision.
async fn watch(maps: Api<ConfigMap>, begin: String, goal: Arc<AtomicU64>) -> Result<Writes> {
    let mut seen = Writes::new();
    let mut newest: u64 = begin.parse()?;
    while newest < goal.load(Ordering::Relaxed) {
        let parameters = WatchParams::default().timeout(5);
        let Ok(stream) = maps.watch(&parameters, &newest.to_string()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = stream.boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            let map = match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => map,
                WatchEvent::Bookmark(mark) => {
                    let at: u64 = mark.metadata.resource_version.parse()?;
                    ensure!(at >= newest, "bookmark {at} after {newest}");
                    newest = at;
                    continue;
                }
                WatchEvent::Deleted(map) => bail!("{:?} was deleted", map.metadata.name),
                WatchEvent::Error(e) => bail!("the watch cannot resume from {newest}: {e:?}"),
            };
            let at = revision(&map)?;
            ensure!(at > newest, "event {at} after {newest}");
            newest = at;
            let name = map.metadata.name.clone().unwrap_or_default();
            if let Some(count) = map.data.as_ref().and_then(|d| d.get("count")) {
                seen.insert(at, (name, count.parse()?));
            }
        }
    }
    Ok(seen)
}

/// Everything that was acknowledged was told, and counts only went up.
fn compare(acknowledged: &Writes, seen: &Writes) -> Result<()> {
    for (at, write) in acknowledged {
        let told = seen.get(at);
        ensure!(
            told == Some(write),
            "at {at}: {write:?} was acknowledged, the watch told {told:?}"
        );
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (at, (name, count)) in seen {
        let before = counts.insert(name, *count).unwrap_or_default();
        ensure!(
            *count > before,
            "at {at}: {name} went from {before} to {count}"
        );
    }
    Ok(())
}
