//! Runs the twins: `conformance [REGEX] [--kubeconfig FILE] [--parallel N] [--ci]`.
//! With `--ci` README's tour runs too, and those that need a cluster for themselves have one, beside the others'.
//! The node's log goes to `$K0S_E2E_LOG`, where that is set (with `--ci`: `.shared` and `.serial`).

mod halves;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::known;
use e2e::twins::{CONFORMANCE, Twin};
use e2e::{Cluster, Cx};
use futures::{StreamExt, stream};
use halves::{Half, Totals};
use regex::Regex;

/// Twins that run at a time.
const PARALLEL: usize = 12;
/// Parts of the names of those that wait for minutes: they begin first, so that nothing waits for them at the end.
const LONG: &[&str] = &[
    "Probing container",
    "CronJob",
    "CustomResourceDefinition Watch",
    "README",
];
/// No twin takes longer: what hangs is a failure.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Parts of the names of those that watch for four or five minutes that nothing happens.
const SLOW: &[&str] = &[
    "[Slow]",
    "Probing container should *not* be restarted",
    "monotonically increasing restart count",
    "same hostPort and protocol but one using 0.0.0.0 hostIP",
];

fn is_slow(name: &str) -> bool {
    SLOW.iter().any(|part| name.contains(part))
}

#[derive(Default)]
struct Args {
    pattern: Option<Regex>,
    kubeconfig: Option<String>,
    parallel: Option<usize>,
    ci: bool,
    half: Option<Half>,
}

fn main() -> ExitCode {
    let done = arguments().and_then(|args| {
        if args.ci && args.half.is_none() && args.kubeconfig.is_none() {
            return halves::run();
        }
        if args.kubeconfig.is_none() {
            e2e::isolate::enter()?;
        }
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(run(args))
    });
    if let Ok(totals) = &done {
        totals.print();
    }
    match done {
        Ok(Totals { failed: 0, .. }) => ExitCode::SUCCESS,
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
            "--parallel" => args.parallel = Some(words.next().context("--parallel N")?.parse()?),
            "--ci" => args.ci = true,
            "--half" => {
                let name = words.next().context("--half NAME")?;
                args.half = Some(Half::parse(&name).context("no such half")?);
            }
            pattern => args.pattern = Some(Regex::new(pattern)?),
        }
    }
    Ok(args)
}

/// How a twin ended.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    /// It fails as `twins::known` says.
    Known,
}

/// Runs what the arguments choose.
async fn run(args: Args) -> Result<Totals> {
    let mut outcomes = Vec::new();
    let takes = |half| args.half.is_none_or(|h| h == half);
    if args.ci && takes(Half::Serial) {
        let begun = Instant::now();
        let done = tokio::task::spawn_blocking(e2e::tour::run).await?;
        outcomes.push(report("README's tour", begun, done));
    }
    if args.kubeconfig.is_none() {
        e2e::isolate::own_etc()?;
        let port = e2e::registry::serve(&e2e::binary::images()).await?;
        e2e::registry::mirror(port)?;
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
    let cx = Cx::within(client(&path).await?, "default");
    e2e::waits::node_ready(&cx).await?;
    let all = e2e::twins::all();
    if takes(Half::Shared) {
        println!("twins: {} of {CONFORMANCE} written", all.len());
    }
    let chosen = all
        .into_iter()
        .filter(|t| args.pattern.as_ref().is_none_or(|p| p.is_match(t.name)))
        // Minutes each, or not proven: not for every commit.
        .filter(|t| !(args.ci && (is_slow(t.name) || known::is_unproven(t.name))));
    // Those that need the cluster for themselves come last, one by one, as upstream runs them.
    let (serial, mut parallel): (Vec<_>, Vec<_>) =
        chosen.partition(|t| t.name.contains("[Serial]"));
    parallel.sort_by_key(|t| !LONG.iter().any(|part| t.name.contains(part)));
    let mut again = Vec::new();
    let at_once = args.parallel.unwrap_or(PARALLEL);
    let groups = [(Half::Shared, parallel, at_once), (Half::Serial, serial, 1)];
    for (_, twins, at_once) in groups.into_iter().filter(|(half, ..)| takes(*half)) {
        let results = stream::iter(twins)
            .map(async |t| (t, one(t, path.clone()).await))
            .buffer_unordered(at_once);
        for (twin, outcome) in results.collect::<Vec<_>>().await {
            match outcome {
                Outcome::Failed => again.push(twin),
                other => outcomes.push(other),
            }
        }
    }
    // A machine that was too busy gets a second chance, alone; both tries are printed.
    for twin in again {
        println!("once more      {}", twin.name);
        outcomes.push(one(twin, path.clone()).await);
    }
    let count = |wanted| outcomes.iter().filter(|o| **o == wanted).count();
    if let (Some(file), Some(cluster)) = (std::env::var_os("K0S_E2E_LOG"), &cluster) {
        std::fs::write(file, cluster.log())?;
    }
    Ok(Totals {
        passed: count(Outcome::Passed),
        failed: count(Outcome::Failed),
        known: count(Outcome::Known),
    })
}

/// Prints how a twin ended.
fn report(name: &str, begun: Instant, done: Result<()>) -> Outcome {
    let seconds = begun.elapsed().as_secs_f64();
    match (done, known::reason(name)) {
        (Ok(()), None) => {
            println!("passed         {seconds:>6.1} s  {name}");
            Outcome::Passed
        }
        (Ok(()), Some(_)) => {
            println!("passed         {seconds:>6.1} s  {name} (listed as a known failure)");
            Outcome::Passed
        }
        (Err(error), Some(reason)) => {
            println!("known failure  {seconds:>6.1} s  {name}: {reason}: {error:#}");
            Outcome::Known
        }
        (Err(error), None) => {
            println!("FAILED         {seconds:>6.1} s  {name}: {error:#}");
            Outcome::Failed
        }
    }
}

async fn client(path: &std::path::Path) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(path)?;
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // A twin sees what the server answers, 429 and 503 too.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

async fn one(twin: &'static Twin, kubeconfig: std::path::PathBuf) -> Outcome {
    let begun = Instant::now();
    let work = async {
        let cx = Cx::new(client(&kubeconfig).await?, twin.base).await?;
        let cx = cx.with_kubeconfig(&kubeconfig);
        let done = tokio::time::timeout(LIMIT, (twin.run)(cx.clone()))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("not done in {LIMIT:?}")));
        // The end of its namespaces is not awaited, as upstream's framework does.
        let cleaned = cx.clean_up().await.context("cleaning up");
        done.and(cleaned)
    };
    let done = work.await;
    report(twin.name, begun, done)
}
