//! Figures of the release binary: size, start, memory, and the API's cost. Prints, never judges.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{Cluster, Cx, binary};
use http::Method;
use serde_json::json;

/// Starts that are timed.
const STARTS: usize = 5;
/// Requests of each kind.
const REQUESTS: usize = 2_000;

fn main() -> ExitCode {
    let done = e2e::isolate::enter()
        .and_then(|()| Ok(tokio::runtime::Runtime::new()?))
        .and_then(|r| r.block_on(run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let size = std::fs::metadata(binary::k0s())?.len() as f64 / f64::from(1 << 20);
    println!("binary                                {size:.1} MiB");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let cluster = tokio::task::spawn_blocking(Cluster::start).await??;
        starts.push(begun.elapsed());
        drop(cluster);
    }
    println!(
        "start to ready, empty disk, median    {:.0} ms",
        ms(median(&mut starts))
    );
    let cluster = tokio::task::spawn_blocking(Cluster::start).await??;
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "PSS idle after 10 s                   {:.1} MiB",
        pss(cluster.pid())?
    );
    api(&cluster).await
}

async fn api(cluster: &Cluster) -> Result<()> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let cx = Cx::new(kube::Client::try_from(config)?, "bench").await?;
    let maps = cx.core("configmaps");
    let filler = "x".repeat(1024);
    let object = |i: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("b-{i}")}, "data": {"k": filler}});
    for concurrency in [1, 16] {
        let base = concurrency * REQUESTS;
        let cost = Cost::begin(cluster)?;
        many(concurrency, |i| {
            let (cx, maps, object) = (cx.clone(), maps.clone(), object(base + i));
            async move { cx.ok(Method::POST, &maps, &object).await.map(drop) }
        })
        .await?;
        cost.print(&format!("create 1 KiB, concurrency {concurrency}"), cluster)?;
        let cost = Cost::begin(cluster)?;
        many(concurrency, |i| {
            let (cx, path) = (cx.clone(), format!("{maps}/b-{}", base + i));
            async move { cx.get(&path).await.map(drop) }
        })
        .await?;
        cost.print(&format!("get 1 KiB, concurrency {concurrency}"), cluster)?;
    }
    Ok(())
}

/// Runs `REQUESTS` requests, so many at a time.
async fn many<F, Fut>(concurrency: usize, f: F) -> Result<()>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    use futures::{StreamExt, TryStreamExt, stream};
    stream::iter(0..REQUESTS)
        .map(f)
        .buffer_unordered(concurrency)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Wall and processor time of a run of requests.
struct Cost {
    begun: Instant,
    cpu: Duration,
}

impl Cost {
    fn begin(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            cpu: cpu(cluster.pid())?,
        })
    }

    fn print(&self, what: &str, cluster: &Cluster) -> Result<()> {
        let wall = self.begun.elapsed().as_secs_f64();
        let used = cpu(cluster.pid())?.saturating_sub(self.cpu);
        println!(
            "{what:<37} {:>6.0}/s  {:>4.0} µs CPU each",
            REQUESTS as f64 / wall,
            used.as_secs_f64() * 1e6 / REQUESTS as f64
        );
        Ok(())
    }
}

/// User and system time of a process.
fn cpu(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit(')').next().context("stat")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |i: usize| {
        words
            .get(i)
            .and_then(|w| w.parse::<u64>().ok())
            .unwrap_or(0)
    };
    // Linux counts in hundredths of a second for user space on every architecture.
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}

/// Proportional set size in MiB.
fn pss(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find(|l| l.starts_with("Pss:"))
        .context("no Pss")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?;
    Ok(kib / 1024.0)
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}
