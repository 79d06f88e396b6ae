//! The cost of requests on custom resources, here and on the reference, in turns.

mod http2;
mod many;
mod requests;
mod target;

use anyhow::{Context, Result};
use e2e::Cluster;
use e2e::reference::Reference;

use crate::nodes;
use target::{Figure, Target};

/// Rounds; the median counts.
const ROUNDS: usize = 3;

/// Measures both servers in turns and prints their medians.
pub async fn run() -> Result<()> {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await??;
    let config = nodes::config(&cluster).await?;
    let mut targets = vec![Target::new("k0s", config, vec![cluster.pid()])?];
    let reference = Reference::start().await?;
    match &reference {
        Some(r) => {
            let pids = r.pids.clone();
            targets.push(Target::new("the reference", r.config.clone(), pids)?);
        }
        None => eprintln!("SKIPPED: the reference is not installed"),
    }
    for t in &targets {
        t.define().await?;
    }
    for _ in 0..ROUNDS {
        for t in &mut targets {
            let figures = requests::round(t).await.context(t.name)?;
            t.rounds.push(figures);
        }
    }
    print(&targets);
    many::run(&mut targets).await
}

/// Our server by itself, and what stops it.
async fn alone() -> Result<(Target, Cluster)> {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await??;
    let config = nodes::config(&cluster).await?;
    let target = Target::new("k0s", config, vec![cluster.pid()])?;
    target.define().await?;
    Ok((target, cluster))
}

/// Measures many objects and watchers on our server alone.
pub async fn many() -> Result<()> {
    let (target, _cluster) = alone().await?;
    many::run(&mut [target]).await
}

/// Measures single requests on our server alone.
pub async fn requests() -> Result<()> {
    let (mut target, _cluster) = alone().await?;
    for _ in 0..ROUNDS {
        let figures = requests::long_round(&mut target).await?;
        target.rounds.push(figures);
    }
    print(&[target]);
    Ok(())
}

fn print(targets: &[Target]) {
    println!(
        "\n| request | k0s /s | CPU µs | p50 ms | p99 ms | reference /s | CPU µs | p50 ms | p99 ms | \
         ratio of CPU | budget CPU µs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let Some(first) = targets.first() else { return };
    for (i, name) in first.names().into_iter().enumerate() {
        let ours = first.median(i);
        let (theirs, ratio) = match targets.get(1).map(|t| t.median(i)) {
            Some(r) => (r.row(), format!("{:.1}", r.cpu / ours.cpu)),
            None => ("– | – | – | –".into(), "–".into()),
        };
        println!(
            "| {name} | {} | {theirs} | {ratio} | {} |",
            ours.row(),
            budget(&name)
        );
    }
}

/// The design's budget of processor time, where there is one.
fn budget(name: &str) -> &'static str {
    match name {
        _ if !name.contains("1 KiB, 16 at once") => "",
        _ if name.starts_with("get") => "40",
        _ if name.starts_with("apply") => "300",
        _ => "200",
    }
}

impl Figure {
    fn row(&self) -> String {
        format!(
            "{:.0} | {:.0} | {:.1} | {:.1}",
            self.rate, self.cpu, self.p50, self.p99
        )
    }
}
