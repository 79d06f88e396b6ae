//! SIGKILL at random moments while writers write and watchers watch: what was acknowledged is there, and each
//! watcher is told all of it exactly once, resuming where it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::load::Load;
use super::{COUNTER, Outcome, create, kubectl, leftovers, running, until};
use crate::cluster::Cluster;

/// How often the node is killed.
const KILLS: usize = 50;
/// The seed of the moments; `$CRASH_SEED` repeats another run.
const SEED: u64 = 20_261_125;

pub fn run() -> Result<Outcome> {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(SEED);
    println!("crash: seed {seed}");
    let mut cluster = Cluster::with_images()?;
    let data = cluster.data_dir();
    let of_others = leftovers::of(&data)?;
    until("the default service account", || {
        kubectl(&cluster, &["get", "serviceaccount", "default"]).map(Some)
    })?;
    create(&cluster, COUNTER)?;
    let before = running(&cluster, "counter")?;
    let load = Load::start(&cluster)?;
    let mut random = StdRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        cluster.crash_and_restart()?;
        load.check().with_context(|| format!("after kill {kill}"))?;
    }
    let after = running(&cluster, "counter")?;
    ensure!(before == after, "the pod was {before:?} and is {after:?}");
    let done = load.finish()?;
    ensure!(
        done.writes >= KILLS,
        "only {} writes were acknowledged",
        done.writes
    );
    println!("crash: {KILLS} kills, {} writes acknowledged", done.writes);
    kubectl(&cluster, &["delete", "pod", "counter", "--wait"])?;
    until("nothing of the pod is left", || {
        let left = leftovers::of(&data)?;
        let ours: Vec<_> = left.difference(&of_others).collect();
        ensure!(ours.is_empty(), "left: {ours:?}");
        Ok(Some(()))
    })?;
    Ok(Outcome::Passed)
}
