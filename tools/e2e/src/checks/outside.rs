//! A whole node whose objects are with a server of another program, which goes away for a moment.

use anyhow::{Result, ensure};

use super::{COUNTER, Outcome, counted, create, kubectl, running, until};
use crate::cluster::Cluster;

/// The other program.
pub trait Outside {
    /// Fails unless the pod `counter` is there, where it should be.
    fn holds_the_counter(&self) -> Result<()>;
    /// Stops it and starts it again on its data.
    fn restart(&mut self) -> Result<()>;
}

/// Objects are there and nowhere else, writes go on after its restart, and nothing is lost with the node.
pub fn run(storage: &str, server: &mut impl Outside) -> Result<Outcome> {
    let mut cluster = Cluster::launch_with(storage, |name| name == "busybox.tar")?;
    cluster.wait_ready()?;
    until("the default service account", || {
        kubectl(&cluster, &["get", "serviceaccount", "default"]).map(Some)
    })?;
    create(&cluster, COUNTER)?;
    let before = running(&cluster, "counter")?;
    let file = cluster.data_dir().join("db/state.db");
    ensure!(!file.exists(), "{} was made", file.display());
    server.holds_the_counter()?;
    let made = kubectl(&cluster, &["create", "configmap", "before"])?;
    ensure!(made.contains("created"), "{made}");
    server.restart()?;
    until("writes go on after the restart", || {
        kubectl(&cluster, &["create", "configmap", "after"]).map(Some)
    })?;
    cluster.crash_and_restart()?;
    for name in ["before", "after"] {
        kubectl(&cluster, &["get", "configmap", name])?;
    }
    let after = running(&cluster, "counter")?;
    ensure!(before == after, "the pod was {before:?} and is {after:?}");
    counted(&kubectl(&cluster, &["logs", "counter"])?)?;
    kubectl(&cluster, &["delete", "pod", "counter", "--wait"])?;
    Ok(Outcome::Passed)
}
