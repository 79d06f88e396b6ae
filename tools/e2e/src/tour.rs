//! The commands of README's tour, on the release binary, with a real kubectl where one is installed.

use anyhow::{Context, Result, ensure};

use crate::binary;
use crate::cluster::Cluster;

/// Runs the tour; each failure names its command.
pub fn run() -> Result<()> {
    let mut cluster = Cluster::start()?;
    commands(&cluster)?;
    match binary::kubectl() {
        Some(kubectl) => with_kubectl(&mut cluster, &kubectl)?,
        None => eprintln!("SKIPPED: the tour with kubectl: none is installed"),
    }
    cluster.k0s(&["stop"])?;
    ensure!(
        cluster.k0s(&["status"]).is_err(),
        "k0s still answers after `k0s stop`"
    );
    Ok(())
}

fn commands(cluster: &Cluster) -> Result<()> {
    let version = cluster_free(&["version"])?;
    ensure!(version.trim() == "v1.37.0+k0s", "version printed {version}");
    let status = cluster.k0s(&["status"])?;
    let pid = format!("Process ID: {}", cluster.pid());
    ensure!(
        status.contains(&pid) && status.contains("Role: controller"),
        "status printed {status}"
    );
    let admin = cluster.k0s(&["kubeconfig", "admin"])?;
    ensure!(
        admin.contains("client-certificate-data"),
        "kubeconfig admin printed {admin}"
    );
    let created = cluster_free(&["config", "create"])?;
    ensure!(
        created.contains("kind: ClusterConfig"),
        "config create printed {created}"
    );
    let missing = cluster_free(&["worker"])
        .err()
        .context("k0s worker did not fail")?;
    ensure!(
        missing.to_string().contains("is not there yet"),
        "k0s worker said {missing}"
    );
    Ok(())
}

/// Runs k0s without a node.
fn cluster_free(args: &[&str]) -> Result<String> {
    crate::cluster::run(std::process::Command::new(binary::k0s()).args(args))
}

fn with_kubectl(cluster: &mut Cluster, kubectl: &std::path::Path) -> Result<()> {
    let example = binary::root().join("examples/configmap.yaml");
    let example = example.to_str().context("the example's path")?;
    let applied = cluster.kubectl(kubectl, &["apply", "-f", example])?;
    ensure!(
        applied.contains("configmap/tour created"),
        "apply printed {applied}"
    );
    let again = cluster.kubectl(kubectl, &["apply", "-f", example])?;
    ensure!(
        again.contains("configmap/tour unchanged"),
        "apply again printed {again}"
    );
    let table = cluster.kubectl(kubectl, &["get", "configmaps"])?;
    ensure!(
        table.contains("DATA") && table.contains("tour"),
        "get printed {table}"
    );
    cluster.kubectl(kubectl, &["label", "configmap", "tour", "seen=yes"])?;
    // What was acknowledged survives SIGKILL.
    cluster.crash_and_restart()?;
    let label = "jsonpath={.metadata.labels.seen}";
    let seen = cluster.kubectl(kubectl, &["get", "configmap", "tour", "-o", label])?;
    ensure!(seen == "yes", "the label is {seen:?} after a crash");
    let deleted = cluster.kubectl(kubectl, &["delete", "configmap", "tour"])?;
    ensure!(
        deleted.contains("configmap \"tour\" deleted"),
        "delete printed {deleted}"
    );
    Ok(())
}
