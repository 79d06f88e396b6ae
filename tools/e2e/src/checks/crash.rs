//! SIGKILL at random moments while writers write and watchers watch: what was acknowledged is there, and each
//! watcher is told all of it exactly once, resuming where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{COUNTER, Outcome, PATIENCE, create, kubectl, leftovers, running, until};
use crate::cluster::Cluster;

/// How often the node is killed.
const KILLS: usize = 50;
/// Writers at a time, each with a ConfigMap of its own.
const WRITERS: usize = 4;
/// Watchers at a time.
const WATCHERS: usize = 3;
/// The seed of the moments; `$CRASH_SEED` repeats another run.
const SEED: u64 = 20_261_125;

/// What the API acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Newest count of each writer's ConfigMap.
    counts: BTreeMap<String, u64>,
    /// Every write by its revision: whose, and its count.
    writes: Writes,
}

/// Names and counts by revision.
type Writes = BTreeMap<u64, (String, u64)>;

pub fn run() -> Result<Outcome> {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(SEED);
    println!("crash: seed {seed}");
    let mut cluster = Cluster::with_images()?;
    let data = cluster.data_dir();
    let of_others = leftovers::of(&data)?;
    until("the default service account", || {
        kubectl(&cluster, &["get", "serviceaccount", "default"]).map(Some)
    })?;
    create(&cluster, COUNTER)?;
    let before = running(&cluster, "counter")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let state = Arc::new(Mutex::new(Acknowledged::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let client = runtime.block_on(client(&cluster))?;
    // Before the first write: all of them are after it.
    let begin = runtime.block_on(client.list(&ListParams::default()))?;
    let begin = begin.metadata.resource_version.context("no revision")?;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| runtime.spawn(write(client.clone(), n, state.clone(), stop.clone())))
        .collect();
    let goal = Arc::new(AtomicU64::new(u64::MAX));
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| runtime.spawn(watch(client.clone(), begin.clone(), goal.clone())))
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        cluster.crash_and_restart()?;
        let checked = runtime.block_on(check(&client, &state));
        checked.with_context(|| format!("after kill {kill}"))?;
    }
    let after = running(&cluster, "counter")?;
    ensure!(before == after, "the pod was {before:?} and is {after:?}");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer)??;
    }
    let acknowledged = std::mem::take(&mut *state.lock());
    let newest = acknowledged.writes.keys().next_back().copied();
    goal.store(newest.unwrap_or_default(), Ordering::Relaxed);
    let mut told: Vec<Writes> = Vec::new();
    for watcher in watchers {
        let seen = runtime.block_on(async { tokio::time::timeout(PATIENCE, watcher).await });
        let mut seen = seen.context("a watcher does not see the newest write")???;
        compare(&acknowledged.writes, &seen)?;
        // Some went on a little longer than others.
        seen.retain(|at, _| Some(*at) <= newest);
        ensure!(
            told.last().is_none_or(|other| *other == seen),
            "two watchers were told different things"
        );
        told.push(seen);
    }
    let writes = acknowledged.writes.len();
    ensure!(writes >= KILLS, "only {writes} writes were acknowledged");
    println!(
        "crash: {KILLS} kills, {} writes acknowledged, counts {:?}",
        acknowledged.writes.len(),
        acknowledged.counts
    );
    kubectl(&cluster, &["delete", "pod", "counter", "--wait"])?;
    until("nothing of the pod is left", || {
        let left = leftovers::of(&data)?;
        let ours: Vec<_> = left.difference(&of_others).collect();
        ensure!(ours.is_empty(), "left: {ours:?}");
        Ok(Some(()))
    })?;
    Ok(Outcome::Passed)
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
                state.counts.insert(name.clone(), count);
                state.writes.insert(revision(&map)?, (name.clone(), count));
            }
            // Killed under it: whether it was written is unknown; the next one says more.
            Err(_) => {
                if count == 1 && maps.get_opt(&name).await.ok().flatten().is_none() {
                    count = 0;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
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
