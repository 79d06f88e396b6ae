//! Restarting the node, asked or killed, never touches containers.

use anyhow::{Result, ensure};

use super::{COUNTER, Outcome, counted, create, kubectl, running, until};
use crate::cluster::Cluster;

pub fn run() -> Result<Outcome> {
    let mut cluster = Cluster::with_images()?;
    until("the default service account", || {
        kubectl(&cluster, &["get", "serviceaccount", "default"]).map(Some)
    })?;
    create(&cluster, COUNTER)?;
    let before = running(&cluster, "counter")?;
    ensure!(before.1 == 0, "restarted before anything happened");
    for asked in [false, true] {
        let seen = counted(&kubectl(&cluster, &["logs", "counter"])?)?;
        if asked {
            cluster.stop_and_restart()?;
        } else {
            cluster.crash_and_restart()?;
        }
        let after = running(&cluster, "counter")?;
        ensure!(
            before == after,
            "container and restarts were {before:?} and are {after:?}"
        );
        until("the log goes on without a gap", || {
            let lines = counted(&kubectl(&cluster, &["logs", "counter"])?)?;
            Ok((lines > seen + 20).then_some(()))
        })?;
    }
    // The adopted container still obeys.
    let said = kubectl(&cluster, &["exec", "counter", "--", "echo", "here"])?;
    ensure!(said.trim() == "here", "exec printed {said:?}");
    kubectl(&cluster, &["delete", "pod", "counter", "--wait"])?;
    Ok(Outcome::Passed)
}
