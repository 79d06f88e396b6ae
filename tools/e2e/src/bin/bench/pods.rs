//! Pods as a watcher sees them: how soon they run, how soon they are gone, what they cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, Cx};
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};

use crate::{line, nodes, process, quantile};

/// Pods one after the other.
const ONE_BY_ONE: usize = 20;
/// Pods at once.
const AT_ONCE: usize = 30;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that nobody else has.
const PRIVATE: &[&str] = &["Private_Clean:", "Private_Dirty:"];

/// A pod of one process that ends on TERM.
pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10.1"}]}})
}

/// Waits until a watch sees a pod in a phase.
pub async fn phase(cx: &Cx, name: &str, wanted: &str) -> Result<()> {
    until(cx, name, "", |kind, o| {
        kind != "DELETED" && o["status"]["phase"] == wanted
    })
    .await
}

/// Deletes a pod and waits until it is gone.
pub async fn delete(cx: &Cx, name: &str) -> Result<()> {
    cx.delete(&cx.core(&format!("pods/{name}"))).await?;
    let Ok(going) = cx.get(&cx.core(&format!("pods/{name}"))).await else {
        return Ok(());
    };
    // From what was seen: its end may come before the watch does.
    let seen = going["metadata"]["resourceVersion"].as_str().unwrap_or("");
    until(cx, name, seen, |kind, _| kind == "DELETED").await
}

/// Watches a pod from a resource version, or from its present state where there is none.
async fn until(
    cx: &Cx,
    name: &str,
    since: &str,
    done: impl Fn(&str, &Value) -> bool,
) -> Result<()> {
    let query = format!("fieldSelector=metadata.name%3D{name}&resourceVersion={since}");
    let mut watch = cx.watch(&cx.core("pods"), &query).await?;
    let begun = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        ensure!(!left.is_zero(), "pod {name}: not in {PATIENCE:?}");
        let (kind, object) = watch.next(left).await.with_context(|| name.to_string())?;
        if done(&kind, &object) {
            return Ok(());
        }
    }
}

/// All figures about pods.
pub async fn run(cluster: &Cluster) -> Result<()> {
    let cx = Cx::new(nodes::client(cluster).await?, "bench").await?;
    let account = cx.core("serviceaccounts/default");
    let (every, within) = (Duration::from_millis(10), PATIENCE);
    let what = "the default service account";
    cx.eventually(every, within, what, || async {
        Ok(cx.get(&account).await.is_ok())
    })
    .await?;
    // The first pod of an image reads it from the disk.
    one(&cx, "warm").await?;
    let (mut runs, mut ends) = (Vec::new(), Vec::new());
    for i in 0..ONE_BY_ONE {
        let (run, end) = one(&cx, &format!("one-{i}")).await?;
        runs.push(run);
        ends.push(end);
    }
    line(
        "pod create to Running, one at a time",
        &shown(&runs),
        "p50 ≤ 100 ms",
    );
    line(
        "pod delete to gone, one at a time",
        &shown(&ends),
        "≤ 150 ms",
    );
    many(cluster, &cx).await
}

async fn one(cx: &Cx, name: &str) -> Result<(f64, f64)> {
    let run = create(cx, name).await?;
    let begun = Instant::now();
    delete(cx, name).await?;
    Ok((run, ms(begun)))
}

async fn create(cx: &Cx, name: &str) -> Result<f64> {
    let begun = Instant::now();
    cx.ok(Method::POST, &cx.core("pods"), &pod(name)).await?;
    phase(cx, name, "Running").await?;
    Ok(ms(begun))
}

async fn many(cluster: &Cluster, cx: &Cx) -> Result<()> {
    let before = process::of_family(cluster.pid(), PRIVATE)?;
    let names: Vec<String> = (0..AT_ONCE).map(|i| format!("many-{i}")).collect();
    let runs = try_join_all(names.iter().map(|n| create(cx, n))).await?;
    line(
        "pod create to Running, 30 at once",
        &shown(&runs),
        "p50 ≤ 600 ms",
    );
    // Caches of the allocator go back a moment after the burst.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = process::of_family(cluster.pid(), PRIVATE)?;
    let keepers: Vec<u32> = process::family(cluster.pid())?
        .into_iter()
        .filter(|p| *p != cluster.pid())
        .collect();
    let kept: f64 = keepers
        .iter()
        .map(|p| process::memory(*p, PRIVATE).unwrap_or(0.0))
        .sum();
    let each = (after - before) / AT_ONCE as f64;
    let figure = format!(
        "{each:.2} MiB ({:.2} of it in the keeper)",
        kept / AT_ONCE as f64
    );
    line("private memory per running pod", &figure, "≤ 1 MB");
    let ends = try_join_all(names.iter().map(|n| async move {
        let begun = Instant::now();
        delete(cx, n).await?;
        anyhow::Ok(ms(begun))
    }))
    .await?;
    line("pod delete to gone, 30 at once", &shown(&ends), "");
    Ok(())
}

fn shown(all: &[f64]) -> String {
    let (p50, p99) = (quantile(all, 0.5), quantile(all, 0.99));
    format!("p50 {p50:.0} ms, p99 {p99:.0} ms")
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}
