//! The same requests to this server and to upstream's own generic API server, answer by answer:
//! `differential [REGEX] [--seeds N] [--base N] [--seconds N] [--kubeconfig FILE] [--full] [--all]`: `--seconds` begins
//! no sequence after so long and takes one of each family in turn, `--full` prints the steps before a difference and
//! the whole answers too, `--all` goes on behind it. Sequences come from fixed seeds; `families/` has one file for each kind of them. Ends
//! with 1 where an answer differs that `explained.rs` does not explain.

mod explained;
mod families;
mod frames;
mod normal;
mod step;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::reference::Reference;
use e2e::{Cluster, Cx};
use futures::{StreamExt, stream};
use http::Method;
use regex::Regex;
use serde_json::json;

use step::{Sequence, Step};
use target::{Answer, Target};

/// Sequences that run at a time.
const AT_ONCE: usize = 24;
/// Differences that are printed.
const SHOWN: usize = 60;

fn main() -> ExitCode {
    let given = option("--kubeconfig");
    let isolated = match given {
        Some(_) => Ok(()),
        None => e2e::isolate::enter(),
    };
    let done = isolated
        .and_then(|()| Ok(tokio::runtime::Runtime::new()?))
        .and_then(|r| r.block_on(run()));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What became of one sequence.
#[derive(Default)]
struct Outcome {
    explained: Vec<&'static str>,
    difference: Option<String>,
    /// What both servers said where they refused what the rest is about.
    ended: Option<String>,
    steps: usize,
}

async fn run() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let pattern = args.first().filter(|a| !a.starts_with("--"));
    let pattern = pattern.map(|p| Regex::new(p)).transpose()?;
    let seeds = option("--seeds").map(|n| n.parse()).transpose()?;
    let given = option("--kubeconfig").map(PathBuf::from);
    const SKIPPED: &str = "SKIPPED: upstream's server is not built (../shared/upstream/build)";
    if !Reference::is_installed() {
        println!("{SKIPPED}");
        return Ok(true);
    }
    // Both start at once.
    let starting = given
        .is_none()
        .then(|| tokio::task::spawn_blocking(Cluster::start));
    let peer = Reference::start().await?;
    let cluster = match starting {
        Some(starting) => Some(starting.await??),
        None => None,
    };
    let Some(peer) = peer else {
        println!("{SKIPPED}");
        return Ok(true);
    };
    let kubeconfig = given.or(cluster.as_ref().map(Cluster::kubeconfig));
    let ours = client(&kubeconfig.context("a kubeconfig")?).await?;
    tokio::try_join!(define(&ours), define(&peer.client))?;
    let base = option("--base").map(|n| n.parse()).transpose()?;
    let mut all = families::all(seeds, base.unwrap_or(0));
    all.retain(|s| pattern.as_ref().is_none_or(|p| p.is_match(&s.name)));
    let seconds = option("--seconds").map(|n| n.parse()).transpose()?;
    if seconds.is_some() {
        all = families::in_turn(all);
    }
    let begun = Instant::now();
    let is_time = || seconds.is_none_or(|n| begun.elapsed() < Duration::from_secs(n));
    let outcomes: Vec<(String, Result<Outcome>)> = stream::iter(all)
        .take_while(|_| std::future::ready(is_time()))
        .map(|s| {
            let clients = (ours.clone(), peer.client.clone());
            async move { (s.name.clone(), compare(&s, clients).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    report(outcomes, begun.elapsed())
}

fn report(outcomes: Vec<(String, Result<Outcome>)>, took: Duration) -> Result<bool> {
    let (mut steps, mut ended, mut wrong) = (0, 0, Vec::new());
    let mut explained: BTreeMap<&str, usize> = BTreeMap::new();
    let sequences = outcomes.len();
    for (name, outcome) in outcomes {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                wrong.push(format!("== {name}\n  {error:#}"));
                continue;
            }
        };
        steps += outcome.steps;
        if let Some(why) = outcome.ended {
            ended += 1;
            if std::env::args().any(|a| a == "--full") {
                println!("ended {name}: {why}");
            }
        }
        for reason in outcome.explained {
            *explained.entry(reason).or_default() += 1;
        }
        if let Some(text) = outcome.difference {
            wrong.push(format!("== {name}\n{text}"));
        }
    }
    wrong.sort();
    for text in wrong.iter().take(SHOWN) {
        println!("{text}\n");
    }
    for (reason, n) in explained {
        println!("explained {n:>5}  {reason}");
    }
    println!(
        "{sequences} sequences ({ended} refused by both halfway), {steps} steps, {} differ, {:.1} s",
        wrong.len(),
        took.as_secs_f64()
    );
    Ok(wrong.is_empty())
}

/// The value of an option.
fn option(name: &str) -> Option<String> {
    let mut args = std::env::args().skip_while(|a| a != name);
    args.nth(1)
}

async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    // The first answer counts, be it a 504.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// Defines the custom resources and waits until they are served.
async fn define(client: &kube::Client) -> Result<()> {
    let cx = Cx::within(client.clone(), "default");
    let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for crd in families::definitions() {
        cx.ok(Method::POST, all, &crd).await?;
    }
    let (every, within) = (Duration::from_millis(50), Duration::from_secs(60));
    for path in families::PATHS {
        cx.eventually(every, within, path, || async {
            Ok(cx.get(path).await.is_ok())
        })
        .await?;
    }
    Ok(())
}

/// Sends a sequence to both servers until an answer differs.
async fn compare(s: &Sequence, (ours, peer): (kube::Client, kube::Client)) -> Result<Outcome> {
    if !s.namespace.is_empty() {
        // Upstream's generic server knows none.
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.namespace}});
        let cx = Cx::within(ours.clone(), "");
        cx.ok(Method::POST, "/api/v1/namespaces", &object).await?;
    }
    let (mut ours, mut peer) = (Target::new(ours), Target::new(peer));
    let mut out = Outcome::default();
    let mut log = Vec::new();
    for step in &s.steps {
        out.steps += 1;
        let (theirs, mine) = match step {
            Step::Send(ask) | Step::Gate(ask) => {
                log.push(ask.line());
                tokio::try_join!(peer.send(ask), ours.send(ask))?
            }
            Step::Begin(ask) => {
                log.push(format!("BEGIN {}", ask.line()));
                tokio::try_join!(peer.begin(ask), ours.begin(ask))?;
                continue;
            }
            Step::Watch(ask, till) => {
                log.push(format!("WATCH {}", ask.line()));
                tokio::try_join!(peer.begin(ask), ours.begin(ask))?;
                tokio::try_join!(peer.end(till), ours.end(till))?
            }
            Step::Quiet(ask) => {
                log.push(format!("QUIET {}", ask.line()));
                tokio::try_join!(peer.send(ask), ours.send(ask))?;
                continue;
            }
            Step::Until(ask, fits) => {
                log.push(format!("UNTIL {}", ask.line()));
                let theirs = async { peer.until(ask, *fits).await.context("at the peer") };
                let mine = async { ours.until(ask, *fits).await.context("here") };
                tokio::try_join!(theirs, mine)?;
                continue;
            }
            Step::End(till) => {
                log.push("END".into());
                tokio::try_join!(peer.end(till), ours.end(till))?
            }
        };
        let Some(what) = differs(&mine, &theirs) else {
            if matches!(step, Step::Gate(_)) && mine.code >= 400 {
                out.ended = Some(mine.body["message"].to_string());
                break;
            }
            continue;
        };
        let ask = match step {
            Step::Send(ask) | Step::Gate(ask) | Step::Watch(ask, _) => Some(ask),
            _ => None,
        };
        match explained::reason(ask, &mine, &theirs) {
            Some(e) => {
                out.explained.push(e.reason);
                if e.ends {
                    break;
                }
            }
            None => {
                // The others are those of the seed: `differential '^FAMILY SEED$' --full`.
                let given = |flag: &str| std::env::args().any(|a| a == flag);
                let from = if given("--full") { 0 } else { log.len() - 1 };
                let mut text = format!("  {}\n  -> {what}", log[from..].join("\n  "));
                if given("--full") {
                    text.push_str(&format!("\n  ours {}\n  peer {}", mine.body, theirs.body));
                }
                let all = out.difference.get_or_insert_default();
                all.push_str(&text);
                if !given("--all") {
                    break;
                }
                all.push_str("\n\n");
            }
        }
    }
    Ok(out)
}

/// How two answers differ.
fn differs(mine: &Answer, theirs: &Answer) -> Option<String> {
    if mine == theirs {
        return None;
    }
    if mine.code != theirs.code {
        return Some(format!(
            "code\n      ours {} {}\n      peer {} {}",
            mine.code, mine.body, theirs.code, theirs.body
        ));
    }
    if mine.headers != theirs.headers {
        return Some(format!(
            "headers\n      ours {:?}\n      peer {:?}\n      body {}",
            mine.headers,
            theirs.headers,
            mine.body.to_string().chars().take(300).collect::<String>()
        ));
    }
    normal::difference(&mine.body, &theirs.body, "")
}
