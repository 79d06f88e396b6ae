//! Runs the twins: `conformance [REGEX] [--kubeconfig FILE] [--ci]`. With `--ci` README's tour runs first.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e::twins::{CONFORMANCE, Twin};
use e2e::{Cluster, Cx};
use futures::{StreamExt, stream};
use regex::Regex;

/// Twins that run at a time.
const PARALLEL: usize = 8;

#[derive(Default)]
struct Args {
    pattern: Option<Regex>,
    kubeconfig: Option<String>,
    ci: bool,
}

fn main() -> ExitCode {
    let done = arguments().and_then(|args| {
        if args.kubeconfig.is_none() {
            e2e::isolate::enter()?;
        }
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(run(args))
    });
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kubeconfig" => args.kubeconfig = Some(words.next().context("--kubeconfig FILE")?),
            "--ci" => args.ci = true,
            pattern => args.pattern = Some(Regex::new(pattern)?),
        }
    }
    Ok(args)
}

/// Runs everything; how many failed.
async fn run(args: Args) -> Result<usize> {
    let (mut passed, mut failed) = (0, 0);
    if args.ci {
        let begun = Instant::now();
        match tokio::task::spawn_blocking(e2e::tour::run).await? {
            Ok(()) => {
                passed += 1;
                println!(
                    "passed  {:>6.1} s  README's tour",
                    begun.elapsed().as_secs_f64()
                );
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  README's tour: {error:#}");
            }
        }
    }
    // Kept until the end: dropping it stops the cluster.
    let cluster = match &args.kubeconfig {
        Some(_) => None,
        None => Some(tokio::task::spawn_blocking(Cluster::with_images).await??),
    };
    let path = match (&args.kubeconfig, &cluster) {
        (Some(path), _) => path.into(),
        (None, Some(cluster)) => cluster.kubeconfig(),
        (None, None) => anyhow::bail!("no cluster"),
    };
    let all = e2e::twins::all();
    println!("twins: {} of {CONFORMANCE} written", all.len());
    let chosen = all
        .into_iter()
        .filter(|t| args.pattern.as_ref().is_none_or(|p| p.is_match(t.name)));
    let results = stream::iter(chosen)
        .map(|t| one(t, path.clone()))
        .buffer_unordered(PARALLEL);
    let results: Vec<bool> = results.collect().await;
    passed += results.iter().filter(|ok| **ok).count();
    failed += results.iter().filter(|ok| !**ok).count();
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

async fn client(path: &std::path::Path) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(path)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn one(twin: &'static Twin, kubeconfig: std::path::PathBuf) -> bool {
    let begun = Instant::now();
    let work = async {
        let client = client(&kubeconfig).await?;
        let cx = Cx::new(client, twin.base).await?;
        (twin.run)(cx).await
    };
    match work.await {
        Ok(()) => {
            println!(
                "passed  {:>6.1} s  {}",
                begun.elapsed().as_secs_f64(),
                twin.name
            );
            true
        }
        Err(error) => {
            println!(
                "FAILED  {:>6.1} s  {}: {error:#}",
                begun.elapsed().as_secs_f64(),
                twin.name
            );
            false
        }
    }
}
