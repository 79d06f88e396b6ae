//! SIGKILL at random moments while writers write and a watcher watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{COUNTER, Outcome, create, kubectl, leftovers, running, until};
use crate::cluster::Cluster;

/// How often the node is killed.
const KILLS: usize = 50;
/// Writers at a time, each with a ConfigMap of its own.
const WRITERS: usize = 4;
/// The seed of the moments; `$CRASH_SEED` repeats another run.
const SEED: u64 = 20_261_125;

/// What the API acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Newest count of each writer's ConfigMap.
    counts: BTreeMap<String, u64>,
    /// Newest revision that was seen.
    revision: u64,
}

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
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| runtime.spawn(write(client.clone(), n, state.clone(), stop.clone())))
        .collect();
    let watcher = runtime.spawn(watch(client.clone(), stop.clone()));
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
    let seen = runtime.block_on(watcher)??;
    let newest = state.lock().counts.clone();
    for (name, count) in &newest {
        let got = seen.get(name).copied().unwrap_or_default();
        ensure!(got >= *count, "the watch saw {name} at {got}, not {count}");
    }
    println!("crash: {KILLS} kills, counts {newest:?}");
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
                state.revision = state.revision.max(revision(&map)?);
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
        (state.counts.clone(), state.revision)
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

/// Takes the counts anew; fails on a step back. Gives the list's revision.
async fn relist(maps: &Api<ConfigMap>, seen: &mut BTreeMap<String, u64>) -> Result<String> {
    let list = maps.list(&ListParams::default()).await?;
    for map in &list.items {
        let name = map.metadata.name.clone().unwrap_or_default();
        if let Some(count) = map.data.as_ref().and_then(|d| d.get("count")) {
            let count: u64 = count.parse()?;
            let before = seen.insert(name.clone(), count).unwrap_or_default();
            ensure!(count >= before, "{name} went from {before} to {count}");
        }
    }
    list.metadata.resource_version.context("no revision")
}

/// Follows the ConfigMaps over all restarts, resuming where it was; fails on a gap or a step back.
async fn watch(maps: Api<ConfigMap>, stop: Arc<AtomicBool>) -> Result<BTreeMap<String, u64>> {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = "0".to_string();
    let mut newest = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let parameters = WatchParams::default().timeout(5);
        let stream = match maps.watch(&parameters, &last).await {
            Ok(stream) => stream,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let mut stream = stream.boxed();
        while let Ok(Some(event)) = stream.try_next().await {
            let map = match event {
                WatchEvent::Added(m) | WatchEvent::Modified(m) => m,
                // A restarted server may have forgotten: clients list again, as upstream's do.
                WatchEvent::Error(e) if e.code == 410 => {
                    last = relist(&maps, &mut seen).await.unwrap_or(last);
                    newest = last.parse()?;
                    break;
                }
                WatchEvent::Error(e) => anyhow::bail!("the watch cannot resume: {e:?}"),
                _ => continue,
            };
            let at = revision(&map)?;
            ensure!(last == "0" || at > newest, "event {at} after {newest}");
            newest = newest.max(at);
            let name = map.metadata.name.clone().unwrap_or_default();
            if let Some(count) = map.data.as_ref().and_then(|d| d.get("count")) {
                let count: u64 = count.parse()?;
                let before = seen.insert(name.clone(), count).unwrap_or_default();
                // Each write is one event: a missed one is a gap. Unacknowledged counts may be skipped by the writer.
                ensure!(
                    count > before || last == "0",
                    "{name} went from {before} to {count}"
                );
            }
            last = newest.to_string();
        }
    }
    Ok(seen)
}
