//! Memory stays bounded whatever clients do: large lists that are read slowly, watchers that never read, and bodies of 3 MiB,
//! many at a time. `$K0S_MEMORY_PODS` and `$K0S_MEMORY_WATCHERS` ask for more than CI has time for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::json;

use super::Outcome;
use crate::cluster::Cluster;

/// Pods of about 1 KiB in a list, and lists at a time.
const PODS: usize = 2_000;
const LISTS: usize = 16;
/// Watchers that never read, and what is written meanwhile.
const WATCHERS: usize = 1_000;
const WRITES: usize = 200;
const WRITE_BYTES: usize = 64 << 10;
/// Bodies at a time, and how often.
const BODIES: usize = 16;
const BODY_BYTES: usize = (3 << 20) - 1_024;
const BODY_ROUNDS: usize = 2;

/// What may be added to the node's memory, in KiB. Lists that nobody reads hold a few frames each; a watcher its
/// connection and what the connection may buffer; a body its text, and what is made of it while it has its turn: 200,000
/// entries of fifteen bytes, each of which is a value, a field that is managed, and a text again.
const LISTS_KIB: u64 = LISTS as u64 * 1_024 + 16_384;
const WATCHER_KIB: u64 = 192;
const BODIES_KIB: u64 = (BODIES as u64 * 2 + LARGE_BODIES * 56) * 3 * 1_024;
/// Large bodies that the server carries out at a time.
const LARGE_BODIES: u64 = 2;

pub fn run() -> Result<Outcome> {
    let cluster = Cluster::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(checked(&cluster))?;
    Ok(Outcome::Passed)
}

async fn checked(cluster: &Cluster) -> Result<()> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let client = kube::Client::try_from(config)?;
    let pods = number("K0S_MEMORY_PODS", PODS);
    make_pods(&client, pods).await?;
    let memory = Memory::watch(cluster.pid())?;
    lists(&client, &memory, pods).await?;
    watchers(&client, &memory, number("K0S_MEMORY_WATCHERS", WATCHERS)).await?;
    bodies(&client, &memory).await
}

fn number(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Sends a request; the answer's body is not read.
async fn send(
    client: &kube::Client,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<http::Response<Body>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body))?;
    Ok(client.send(request).await?)
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make_pods(client: &kube::Client, n: usize) -> Result<()> {
    let make = |i: usize| async move {
        let pod = json!({"metadata": {"name": format!("pod-{i:06}"), "annotations": {"text": "x".repeat(500)}},
            "spec": {"schedulerName": "nobody", "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "registry.example/none:1"}]}});
        let path = "/api/v1/namespaces/default/pods";
        let answer = send(client, "POST", path, pod.to_string().into_bytes()).await?;
        ensure!(answer.status() == 201, "pod {i}: {}", answer.status());
        answer.into_body().collect().await?;
        anyhow::Ok(())
    };
    super::until_async("the default service account", async || make(0).await.ok()).await?;
    let all = stream::iter(1..n).map(make).buffer_unordered(32);
    all.try_collect::<()>().await
}

/// Lists that were begun and are not read hold no more than a few frames, however long they are.
async fn lists(client: &kube::Client, memory: &Memory, pods: usize) -> Result<()> {
    memory.settle();
    let mut open = Vec::new();
    for _ in 0..LISTS {
        let answer = send(client, "GET", "/api/v1/pods", Vec::new()).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let mut body = answer.into_body();
        let first = body.frame().await.context("an empty list")??;
        open.push((body, first.into_data().map_or(0, |d| d.len())));
    }
    memory.check(&format!("{LISTS} lists of {pods} pods begun"), LISTS_KIB)?;
    for (mut body, mut bytes) in open {
        while let Some(frame) = body.frame().await {
            bytes += frame?.into_data().map_or(0, |d| d.len());
        }
        ensure!(
            bytes > pods * 900,
            "a list of {pods} pods has {bytes} bytes"
        );
    }
    memory.check(&format!("{LISTS} lists of {pods} pods read"), LISTS_KIB)?;
    Ok(())
}

/// Watchers that never read hold their connections, and no events beyond what these may buffer.
async fn watchers(client: &kube::Client, memory: &Memory, n: usize) -> Result<()> {
    memory.settle();
    let path = format!("{MAPS}?watch=true");
    let open = stream::iter(0..n).map(|_| send(client, "GET", &path, Vec::new()));
    let open: Vec<_> = open.buffer_unordered(32).try_collect().await?;
    let idle = memory.check(&format!("{n} watchers"), WATCHER_KIB * n as u64)?;
    let text = "y".repeat(WRITE_BYTES);
    for i in 0..WRITES {
        let map =
            json!({"metadata": {"name": "flood"}, "data": {"text": text, "n": i.to_string()}});
        let (method, path) = match i {
            0 => ("POST", MAPS.to_string()),
            _ => ("PUT", format!("{MAPS}/flood")),
        };
        let answer = send(client, method, &path, map.to_string().into_bytes()).await?;
        ensure!(
            answer.status().is_success(),
            "write {i}: {}",
            answer.status()
        );
        answer.into_body().collect().await?;
    }
    let megabytes = (WRITES * WRITE_BYTES) >> 20;
    let what = format!("{n} watchers that never read, {megabytes} MiB of events for each");
    memory.check(&what, WATCHER_KIB * n as u64 + 32_768)?;
    println!("memory: an idle watcher takes {} KiB", idle / n as u64);
    drop(open);
    Ok(())
}

/// Bodies of the largest size, valid JSON and too large to be stored.
async fn bodies(client: &kube::Client, memory: &Memory) -> Result<()> {
    memory.settle();
    let head = r#"{"metadata":{"name":"large"},"data":{"#;
    let entry = |i: usize| format!(r#""k{i}":"v""#);
    let mut text = head.to_string();
    for i in 0.. {
        if text.len() + 32 > BODY_BYTES {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(&entry(i));
    }
    text.push_str("}}");
    let text = text.into_bytes();
    let mut slowest = Duration::ZERO;
    for _ in 0..BODY_ROUNDS {
        let text = &text;
        let post = |_| async move {
            let answer = send(client, "POST", MAPS, text.clone()).await?;
            // Too large, or shed: never stored.
            ensure!(answer.status().is_client_error(), "{}", answer.status());
            answer.into_body().collect().await?;
            anyhow::Ok(())
        };
        let all = stream::iter(0..BODIES).map(post).buffer_unordered(BODIES);
        let mut all = std::pin::pin!(all.try_collect::<()>());
        // Meanwhile the server says that it is well.
        loop {
            let asked = Instant::now();
            tokio::select! {
                done = &mut all => break done?,
                answer = send(client, "GET", "/livez", Vec::new()) => {
                    ensure!(answer?.status() == 200, "livez while bodies are carried out");
                    slowest = slowest.max(asked.elapsed());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    println!("memory: the slowest health check meanwhile took {slowest:?}");
    memory.check(&format!("{BODIES} bodies of 3 MiB at a time"), BODIES_KIB)?;
    Ok(())
}

/// The node's memory, looked at all the time.
struct Memory {
    pid: u32,
    before: AtomicU64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Memory {
    fn watch(pid: u32) -> Result<Self> {
        held(pid)?;
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (highest, ended) = (peak.clone(), stop.clone());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                highest.fetch_max(held(pid).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        let before = AtomicU64::new(0);
        Ok(Self {
            pid,
            before,
            peak,
            stop,
        })
    }

    /// Counts from here.
    fn settle(&self) {
        let now = held(self.pid).unwrap_or(0);
        self.before.store(now, Ordering::Relaxed);
        self.peak.store(now, Ordering::Relaxed);
    }

    /// Fails where more was added than may be; gives what was, in KiB.
    fn check(&self, what: &str, limit: u64) -> Result<u64> {
        let before = self.before.load(Ordering::Relaxed);
        let now = held(self.pid)?;
        let most = self.peak.fetch_max(now, Ordering::Relaxed).max(now);
        let added = most.saturating_sub(before);
        println!("memory: {what}: {before} KiB and at most {added} KiB more");
        ensure!(
            added <= limit,
            "{what}: {added} KiB were added, {limit} may be"
        );
        Ok(added)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a process holds that is no file's, in KiB: pages of files, as of the program itself, count less while others use them too.
fn held(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss_Anon:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    Ok(number.context("no Pss_Anon")?.parse()?)
}
