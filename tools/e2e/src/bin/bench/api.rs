//! The cost of requests on a custom resource of 1 KiB, here and on the reference, in turns.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::reference::Reference;
use e2e::{Cluster, Cx};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::{line, nodes, process, quantile};

/// Rounds; the median counts.
const ROUNDS: usize = 3;
/// Requests of each kind and round.
const REQUESTS: usize = 500;
/// Lists of `REQUESTS` objects.
const LISTS: usize = 32;
const FIGURES: &str = "/apis/bench.example.com/v1/namespaces/default/figures";
/// How long a watcher waits for the next event.
const EVENT: Duration = Duration::from_secs(30);

/// Requests or events a second, and µs of the server's processor time for each.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    cpu: f64,
}

struct Target {
    cx: Cx,
    pids: Vec<u32>,
    rounds: Vec<Vec<(String, Figure)>>,
}

/// Measures both servers in turns and prints their medians.
pub async fn run() -> Result<()> {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await??;
    let mut targets = vec![target(nodes::client(&cluster).await?, vec![cluster.pid()])];
    let reference = Reference::start().await?;
    match &reference {
        Some(r) => targets.push(target(r.client.clone(), r.pids.clone())),
        None => eprintln!("SKIPPED: the reference is not installed"),
    }
    for t in &targets {
        define(&t.cx).await?;
    }
    for _ in 0..ROUNDS {
        for t in &mut targets {
            let figures = round(t).await?;
            t.rounds.push(figures);
        }
    }
    println!(
        "\n| request | k0s /s | k0s CPU µs | reference /s | reference CPU µs | ratio of CPU | budget µs |"
    );
    println!("|---|---|---|---|---|---|---|");
    let names: Vec<String> = targets[0].rounds[0]
        .iter()
        .map(|(n, _)| n.clone())
        .collect();
    for (i, name) in names.iter().enumerate() {
        let ours = targets[0].median(i);
        let budget = budget(name);
        let rest = match targets.get(1).map(|t| t.median(i)) {
            Some(r) => format!(
                "{:.0} | {:.0} | {:.1} | {budget}",
                r.rate,
                r.cpu,
                r.cpu / ours.cpu
            ),
            None => format!("– | – | – | {budget}"),
        };
        line(name, &format!("{:.0} | {:.0}", ours.rate, ours.cpu), &rest);
    }
    Ok(())
}

fn budget(name: &str) -> &'static str {
    match name.split_once(',') {
        Some(("get", " concurrency 16")) => "40",
        Some(("create" | "delete", " concurrency 16")) => "200",
        Some((what, " concurrency 16")) if what.starts_with("list") => "1,000",
        Some((what, _)) if what.starts_with("event") => "3",
        _ => "",
    }
}

fn target(client: kube::Client, pids: Vec<u32>) -> Target {
    Target {
        cx: Cx::within(client, "default"),
        pids,
        rounds: Vec::new(),
    }
}

impl Target {
    fn median(&self, i: usize) -> Figure {
        let of = |f: fn(&Figure) -> f64| {
            let all: Vec<f64> = self.rounds.iter().map(|r| f(&r[i].1)).collect();
            quantile(&all, 0.5)
        };
        Figure {
            rate: of(|f| f.rate),
            cpu: of(|f| f.cpu),
        }
    }
}

/// Defines the resource and waits until it is served.
async fn define(cx: &Cx) -> Result<()> {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "figures.bench.example.com"},
        "spec": {"group": "bench.example.com", "scope": "Namespaced",
            "names": {"plural": "figures", "kind": "Figure"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}]}});
    let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cx.ok(Method::POST, all, &crd).await?;
    let (every, within) = (Duration::from_millis(50), Duration::from_secs(30));
    cx.eventually(every, within, "the resource is served", || async {
        Ok(cx.get(FIGURES).await.is_ok())
    })
    .await
}

fn object(name: &str, n: usize) -> Value {
    json!({"apiVersion": "bench.example.com/v1", "kind": "Figure", "metadata": {"name": name},
        "spec": {"text": "x".repeat(1024), "n": n}})
}

async fn round(t: &Target) -> Result<Vec<(String, Figure)>> {
    let mut out = Vec::new();
    for c in [1, 16] {
        let created = t
            .measure(REQUESTS, c, |i| t.create(format!("c{c}-{i}")))
            .await?;
        out.push((format!("create, concurrency {c}"), created));
        let get = |i| t.text(format!("{FIGURES}/c{c}-{i}"));
        let figure = t.measure(REQUESTS, c, get).await?;
        out.push((format!("get, concurrency {c}"), figure));
        let update = |i| t.update(format!("c{c}-{i}"));
        let figure = t.measure(REQUESTS, c, update).await?;
        out.push((format!("get and update, concurrency {c}"), figure));
        if c == 1 {
            for c in [1, 16] {
                let list = |_| t.text(FIGURES.to_string());
                let figure = t.measure(LISTS, c, list).await?;
                out.push((format!("list of {REQUESTS}, concurrency {c}"), figure));
            }
        }
        let figure = t.events(c, created).await?;
        out.push((format!("event to {c} watchers"), figure));
    }
    let delete = |i| {
        let path = format!("{FIGURES}/c16-{i}");
        async move { t.cx.delete(&path).await.map(drop) }
    };
    let figure = t.measure(REQUESTS, 16, delete).await?;
    out.push(("delete, concurrency 16".into(), figure));
    t.cx.delete(FIGURES).await?;
    Ok(out)
}

impl Target {
    async fn create(&self, name: String) -> Result<()> {
        self.cx
            .ok(Method::POST, FIGURES, &object(&name, 0))
            .await
            .map(drop)
    }

    async fn update(&self, name: String) -> Result<()> {
        let path = format!("{FIGURES}/{name}");
        let mut changed = object(&name, 1);
        let stored = self.cx.get(&path).await?;
        changed["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        self.cx.ok(Method::PUT, &path, &changed).await.map(drop)
    }

    async fn text(&self, path: String) -> Result<()> {
        let text = self
            .cx
            .client
            .request_text(Request::get(path).body(Vec::new())?)
            .await?;
        ensure!(!text.is_empty(), "an empty answer");
        Ok(())
    }

    /// Runs `n` requests, so many at a time.
    async fn measure<F, Fut>(&self, n: usize, concurrency: usize, f: F) -> Result<Figure>
    where
        F: Fn(usize) -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let cpu = process::cpu(&self.pids)?;
        let begun = Instant::now();
        stream::iter(0..n)
            .map(f)
            .buffer_unordered(concurrency)
            .try_collect::<Vec<()>>()
            .await?;
        self.figure(n, begun, cpu, 0.0)
    }

    /// Events that watchers receive of creates; the creates' own cost is taken off.
    async fn events(&self, watchers: usize, created: Figure) -> Result<Figure> {
        let list = self.cx.get(&format!("{FIGURES}?limit=1")).await?;
        let from = list["metadata"]["resourceVersion"].as_str().unwrap_or("");
        let mut watches = Vec::new();
        for _ in 0..watchers {
            let query = format!("resourceVersion={from}");
            watches.push(self.cx.watch(FIGURES, &query).await?);
        }
        let cpu = process::cpu(&self.pids)?;
        let begun = Instant::now();
        let reading = futures::future::try_join_all(watches.iter_mut().map(|w| async {
            for _ in 0..REQUESTS {
                w.next(EVENT).await?;
            }
            anyhow::Ok(())
        }));
        let writing = stream::iter(0..REQUESTS)
            .map(|i| self.create(format!("w{watchers}-{i}")))
            .buffer_unordered(watchers)
            .try_collect::<Vec<()>>();
        let (read, written) = tokio::join!(reading, writing);
        read?;
        written?;
        let own = created.cpu * REQUESTS as f64;
        self.figure(REQUESTS * watchers, begun, cpu, own)
    }

    fn figure(&self, n: usize, begun: Instant, cpu: Duration, less: f64) -> Result<Figure> {
        let used = process::cpu(&self.pids)?.saturating_sub(cpu);
        Ok(Figure {
            rate: n as f64 / begun.elapsed().as_secs_f64(),
            cpu: (used.as_secs_f64() * 1e6 - less).max(0.0) / n as f64,
        })
    }
}
