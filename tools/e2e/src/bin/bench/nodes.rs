//! Starts of a node, and what it uses while nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, Cx};
use http::Method;
use kube::Client;
use serde_json::json;

use crate::{line, pods, process, quantile};

/// Starts that are timed.
const STARTS: usize = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before memory at rest is measured.
const REST: Duration = Duration::from_secs(60);

/// When what answered, in ms after the process was started.
struct Start {
    readyz: f64,
    node: f64,
    pod: f64,
}

/// A client with the admin's rights, as soon as there is one.
pub async fn client(cluster: &Cluster) -> Result<Client> {
    Ok(Client::try_from(config(cluster).await?)?)
}

/// How the admin reaches a cluster.
pub async fn config(cluster: &Cluster) -> Result<kube::Config> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?)
}

/// Times starts on an empty disk and on a used one.
pub async fn starts() -> Result<()> {
    let (mut empty, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let mut cluster =
            tokio::task::spawn_blocking(|| Cluster::launch(|file| file == "pause.tar")).await??;
        empty.push(watch_start(&cluster, begun).await?);
        cluster.stop()?;
        let begun = Instant::now();
        cluster.launch_again()?;
        warm.push(watch_start(&cluster, begun).await?);
    }
    let show = |all: &[Start], of: fn(&Start) -> f64| {
        let values: Vec<f64> = all.iter().map(of).collect();
        format!("{:.0} ms", quantile(&values, 0.5))
    };
    line(
        "start to /readyz, warm",
        &show(&warm, |s| s.readyz),
        "300 ms",
    );
    line(
        "start to node Ready, warm",
        &show(&warm, |s| s.node),
        "500 ms",
    );
    line(
        "start to first pod Running, warm",
        &show(&warm, |s| s.pod),
        "800 ms",
    );
    line(
        "start to /readyz, empty disk",
        &show(&empty, |s| s.readyz),
        "",
    );
    line(
        "start to node Ready, empty disk",
        &show(&empty, |s| s.node),
        "2,000 ms",
    );
    let what = "start to first pod Running, empty disk, image imported from its archive";
    line(what, &show(&empty, |s| s.pod), "");
    Ok(())
}

async fn watch_start(cluster: &Cluster, begun: Instant) -> Result<Start> {
    let ms = || begun.elapsed().as_secs_f64() * 1000.0;
    let client = loop {
        match client(cluster).await {
            Ok(client) if readyz(&client).await => break client,
            _ => wait(begun, "/readyz").await?,
        }
    };
    let readyz = ms();
    let cx = Cx::within(client, "default");
    while !node_ready(&cx).await {
        wait(begun, "node Ready").await?;
    }
    let node = ms();
    let name = format!("first-{}", begun.elapsed().as_nanos());
    let pods = cx.core("pods");
    while cx.ok(Method::POST, &pods, &pods::pod(&name)).await.is_err() {
        wait(begun, "a pod accepted").await?;
    }
    pods::phase(&cx, &name, "Running").await?;
    let pod = ms();
    pods::delete(&cx, &name).await?;
    Ok(Start { readyz, node, pod })
}

async fn wait(begun: Instant, what: &str) -> Result<()> {
    ensure!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
    tokio::time::sleep(LOOK).await;
    Ok(())
}

pub async fn readyz(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    client.request_text(request).await.is_ok_and(|t| t == "ok")
}

async fn node_ready(cx: &Cx) -> bool {
    let Ok(nodes) = cx.get("/api/v1/nodes").await else {
        return false;
    };
    let conditions = &nodes["items"][0]["status"]["conditions"];
    let ready = json!("Ready");
    conditions.as_array().is_some_and(|all| {
        all.iter()
            .any(|c| c["type"] == ready && c["status"] == "True")
    })
}

/// Memory and processor time of a node without workload.
pub async fn idle(cluster: &Cluster) -> Result<()> {
    let pid = cluster.pid();
    tokio::time::sleep(REST / 2).await;
    let before = process::cpu(&[pid])?;
    tokio::time::sleep(REST / 2).await;
    let used = process::cpu(&[pid])?.saturating_sub(before);
    let pss = process::of_family(pid, &["Pss:"]).context("PSS")?;
    let anon = process::of_family(pid, &["Pss_Anon:"]).context("PSS")?;
    let share = used.as_secs_f64() / (REST / 2).as_secs_f64() * 100.0;
    let what = "PSS of the idle node after 60 s";
    line(
        what,
        &format!("{pss:.1} MiB ({anon:.1} of it anonymous)"),
        "≤ 64 MB",
    );
    line(
        "processor time of the idle node",
        &format!("{share:.2} % of a core"),
        "",
    );
    Ok(())
}
