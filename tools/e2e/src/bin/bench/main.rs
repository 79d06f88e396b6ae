//! Figures of the release binary: size, start, memory, pods, the API's cost beside the reference
//! API server's, and the cost of policy. Prints a table in Markdown, never judges. Arguments choose sections
//! (`size`, `start`, `idle`, `pods`, `api`, `policy`); none means all. `requests` and `many`, only by their names, are what to
//! compare two binaries by: single requests in greater numbers, and many objects and watchers, without the reference.

mod api;
mod nodes;
mod pods;
mod policy;
mod process;

use std::process::ExitCode;

use anyhow::Result;
use e2e::{Cluster, binary};

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
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    println!("| what | figure | budget |\n|---|---|---|");
    if has("size") {
        let size = std::fs::metadata(binary::k0s())?.len() as f64 / f64::from(1 << 20);
        line(
            "release binary, static, stripped",
            &format!("{size:.1} MiB"),
            "≤ 40 MB",
        );
    }
    if has("start") {
        nodes::starts().await?;
    }
    if has("idle") || has("pods") {
        let cluster = tokio::task::spawn_blocking(Cluster::with_images).await??;
        if has("idle") {
            nodes::idle(&cluster).await?;
        }
        if has("pods") {
            pods::run(&cluster).await?;
        }
    }
    if has("api") {
        api::run().await?;
    }
    if has("policy") {
        policy::run().await?;
    }
    if wanted.iter().any(|w| w == "requests") {
        api::requests().await?;
    }
    if wanted.iter().any(|w| w == "many") {
        api::many().await?;
    }
    Ok(())
}

/// One row of the table.
fn line(what: &str, figure: &str, budget: &str) {
    println!("| {what} | {figure} | {budget} |");
}

/// The value at a fraction of sorted values: 0.5 is the median.
fn quantile(all: &[f64], fraction: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = (fraction * last as f64).ceil() as usize;
    sorted.get(at.min(last)).copied().unwrap_or(f64::NAN)
}
