//! How fast the store is here: durable writes of 1 KiB at several concurrencies, CPU and bytes on
//! disk for each, then reads of a large range. Run it with
//! `cargo run --release -p store --example store_bench [FOLDER | http://ETCD:2379] [KEYS]`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::etcd::{Etcd, EtcdConfig};
use store::sqlite::Sqlite;
use store::{Range, Store};

const VALUE: usize = 1 << 10;
const TIME: Duration = Duration::from_secs(4);
const PAGE: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next();
    let keys: usize = arguments.next().map_or(Ok(100_000), |n| n.parse())?;
    let dir = tempfile::tempdir_in(
        place
            .as_deref()
            .filter(|p| Path::new(p).is_dir())
            .unwrap_or("."),
    )?;
    let store = match place {
        Some(url) if url.contains("://") => {
            let config = EtcdConfig {
                endpoints: vec![url],
                prefix: format!("/bench-{}", std::process::id()),
                ..EtcdConfig::default()
            };
            Store::new(Etcd::connect(config).await?)
        }
        _ => {
            let (fatal, _) = tokio::sync::oneshot::channel();
            Store::new(Sqlite::open(&dir.path().join("bench.db"), fatal)?)
        }
    };
    let next = Arc::new(AtomicU64::new(0));
    for concurrency in [1, 16, 128] {
        creates(&store, concurrency, &next).await?;
        updates(&store, concurrency).await?;
    }
    fill(&store, keys, &next).await?;
    reads(&store).await?;
    println!("size {} MiB", store.size().await? >> 20);
    let begun = Instant::now();
    let now = store.revision().await?;
    store.compact(now).await?;
    println!(
        "compact {:?}, size {} MiB",
        begun.elapsed(),
        store.size().await? >> 20
    );
    Ok(())
}

fn value(n: u64) -> Bytes {
    // Not compressible to nothing, not random either: as objects are.
    (0..VALUE as u64)
        .map(|i| ((i * 31) ^ (n >> (i % 8))) as u8)
        .collect()
}

fn key(n: u64) -> Bytes {
    format!("/registry/pods/namespace-{}/pod-{n:08}", n % 97).into()
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    // utime and stime in ticks of 10 ms, counted from the state field.
    fields.get(11..13).map_or(0.0, |t| (t[0] + t[1]) / 100.0)
}

fn report(what: &str, concurrency: usize, count: u64, begun: Instant, cpu_before: f64) {
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{what:8} concurrency {concurrency:4}: {:8.0}/s, {:6.0} µs CPU each, mean {:7.0} µs",
        count as f64 / seconds,
        (cpu() - cpu_before) / count as f64 * 1e6,
        seconds * 1e6 * concurrency as f64 / count as f64,
    );
}

async fn creates(
    store: &Store,
    concurrency: usize,
    next: &Arc<AtomicU64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (begun, cpu_before) = (Instant::now(), cpu());
    let first = next.load(Ordering::Relaxed);
    let mut tasks = Vec::new();
    for _ in 0..concurrency {
        let (store, next) = (store.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            while begun.elapsed() < TIME {
                let n = next.fetch_add(1, Ordering::Relaxed);
                store.create(key(n), value(n), 0).await?;
            }
            Ok::<_, store::WriteError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let count = next.load(Ordering::Relaxed) - first;
    report("create", concurrency, count, begun, cpu_before);
    Ok(())
}

async fn updates(store: &Store, concurrency: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut tasks = Vec::new();
    for t in 0..concurrency as u64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            let mut at = store.get(key(t)).await?.map_or(0, |kv| kv.mod_revision);
            while begun.elapsed() < TIME {
                count += 1;
                at = store.update(key(t), value(count), at, 0).await?;
            }
            Ok::<_, store::WriteError>(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    report("update", concurrency, count, begun, cpu_before);
    Ok(())
}

/// Creates keys until there are so many.
async fn fill(
    store: &Store,
    keys: usize,
    next: &Arc<AtomicU64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut tasks = Vec::new();
    for _ in 0..256 {
        let (store, next) = (store.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= keys as u64 {
                    return Ok::<_, store::WriteError>(());
                }
                store.create(key(n), value(n), 0).await?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn reads(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let (begun, cpu_before) = (Instant::now(), cpu());
    for n in 0..2_000 {
        store.get(key(n)).await?;
    }
    report("get", 1, 2_000, begun, cpu_before);
    let range = || Range::prefix("/registry/pods/");
    let (begun, cpu_before) = (Instant::now(), cpu());
    let all = store.range(range()).await?;
    report(&format!("all {}", all.count), 1, 1, begun, cpu_before);
    drop(all);
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut page = Range {
        limit: PAGE,
        ..range()
    };
    for _ in 0..10 {
        let answer = store.range(page.clone()).await?;
        page.revision = answer.revision;
        if let Some(last) = answer.kvs.last() {
            page.key = [&last.key[..], &[0]].concat().into();
        }
    }
    report("page 500", 1, 10, begun, cpu_before);
    let (begun, cpu_before) = (Instant::now(), cpu());
    let count = Range {
        count_only: true,
        ..range()
    };
    for _ in 0..5 {
        store.range(count.clone()).await?;
    }
    report("count", 1, 5, begun, cpu_before);
    Ok(())
}
