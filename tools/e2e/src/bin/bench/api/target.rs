//! One server under measurement, and the requests that are sent to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::Cx;
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::{process, quantile};

/// The resource that all requests are about.
pub const FIGURES: &str = "/apis/bench.example.com/v1/namespaces/default/figures";
const APPLY: &str = "application/apply-patch+yaml";

/// What one kind of request costs.
#[derive(Clone, Copy)]
pub struct Figure {
    /// Requests a second.
    pub rate: f64,
    /// µs of the server's processor time for each.
    pub cpu: f64,
    /// How long they took as the client saw it, in ms.
    pub p50: f64,
    pub p99: f64,
}

/// A server: ours or the reference.
pub struct Target {
    pub name: &'static str,
    config: kube::Config,
    pub cx: Cx,
    pub pids: Vec<u32>,
    pub rounds: Vec<Vec<(String, Figure)>>,
}

impl Target {
    pub fn new(name: &'static str, config: kube::Config, pids: Vec<u32>) -> Result<Self> {
        Ok(Self {
            name,
            cx: Cx::within(config.clone().try_into()?, "default"),
            config,
            pids,
            rounds: Vec::new(),
        })
    }

    /// Leaves connections that were idle while the other server had its turn: servers close them.
    pub fn reconnect(&mut self) -> Result<()> {
        self.cx = Cx::within(self.config.clone().try_into()?, "default");
        Ok(())
    }

    /// The same over connections of HTTP/2.
    pub async fn share(&mut self, connections: usize) -> Result<()> {
        let client = super::http2::client(&self.config, connections).await?;
        self.cx = Cx::within(client, "default");
        Ok(())
    }

    /// Defines the resource and waits until it is served.
    pub async fn define(&self) -> Result<()> {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}}});
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "figures.bench.example.com"},
            "spec": {"group": "bench.example.com", "scope": "Namespaced",
                "names": {"plural": "figures", "kind": "Figure"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema}}]}});
        let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.cx.ok(Method::POST, all, &crd).await?;
        let (every, within) = (Duration::from_millis(50), Duration::from_secs(30));
        let served = || async { Ok(self.cx.get(FIGURES).await.is_ok()) };
        self.cx
            .eventually(every, within, "the resource is served", served)
            .await
    }

    /// The names of a round's figures.
    pub fn names(&self) -> Vec<String> {
        let round = self.rounds.first().into_iter().flatten();
        round.map(|(name, _)| name.clone()).collect()
    }

    /// The median of each part of the figure over the rounds.
    pub fn median(&self, i: usize) -> Figure {
        let of = |f: fn(&Figure) -> f64| {
            let all: Vec<f64> = self.rounds.iter().map(|r| f(&r[i].1)).collect();
            quantile(&all, 0.5)
        };
        Figure {
            rate: of(|f| f.rate),
            cpu: of(|f| f.cpu),
            p50: of(|f| f.p50),
            p99: of(|f| f.p99),
        }
    }

    /// MiB of anonymous memory of the server's processes.
    pub fn memory(&self) -> Result<f64> {
        let all = self
            .pids
            .iter()
            .map(|p| process::memory(*p, &["Anonymous:"]));
        all.sum()
    }
}

// === Requests ===

fn object(name: &str, size: usize, n: usize) -> Value {
    json!({"apiVersion": "bench.example.com/v1", "kind": "Figure", "metadata": {"name": name},
        "spec": {"text": "x".repeat(size), "n": n}})
}

impl Target {
    pub async fn create(&self, name: String, size: usize) -> Result<()> {
        let body = object(&name, size, 0);
        self.cx.ok(Method::POST, FIGURES, &body).await.map(drop)
    }

    /// Puts over what is at a resource version.
    pub async fn update(&self, name: &str, size: usize, version: &Value) -> Result<()> {
        let mut body = object(name, size, 1);
        body["metadata"]["resourceVersion"] = version.clone();
        let path = format!("{FIGURES}/{name}");
        self.cx.ok(Method::PUT, &path, &body).await.map(drop)
    }

    /// Server-side apply of the whole object as another manager.
    pub async fn apply(&self, name: String, size: usize) -> Result<()> {
        let path = format!("{FIGURES}/{name}?fieldManager=bench&force=true");
        let body = object(&name, size, 2);
        let answer = self.cx.send(Method::PATCH, &path, APPLY, Some(&body));
        let answer = answer.await?;
        ensure!(answer.is_ok(), "{path}: {answer:?}");
        Ok(())
    }

    pub async fn delete(&self, name: String) -> Result<()> {
        self.cx.delete(&format!("{FIGURES}/{name}")).await.map(drop)
    }

    /// Reads a path to its end.
    pub async fn text(&self, path: String) -> Result<()> {
        let request = Request::get(path).body(Vec::new())?;
        let text = self.cx.client.request_text(request).await?;
        ensure!(!text.is_empty(), "an empty answer");
        Ok(())
    }

    /// Runs `n` requests, so many at a time.
    pub async fn measure<F, Fut>(&self, n: usize, concurrency: usize, f: F) -> Result<Figure>
    where
        F: Fn(usize) -> Fut,
        Fut: Future<Output = Result<()>>,
    {
        let cpu = process::cpu(&self.pids)?;
        let begun = Instant::now();
        let took: Vec<f64> = stream::iter(0..n)
            .map(|i| {
                let request = f(i);
                async {
                    let begun = Instant::now();
                    request.await?;
                    anyhow::Ok(begun.elapsed().as_secs_f64() * 1e3)
                }
            })
            .buffer_unordered(concurrency)
            .try_collect()
            .await?;
        let elapsed = begun.elapsed().as_secs_f64();
        let used = process::cpu(&self.pids)?.saturating_sub(cpu);
        Ok(Figure {
            rate: n as f64 / elapsed,
            cpu: used.as_secs_f64() * 1e6 / n as f64,
            p50: quantile(&took, 0.5),
            p99: quantile(&took, 0.99),
        })
    }
}
