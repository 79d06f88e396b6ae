//! `k0s reset`: pods, pod network, mounts and directories of a stopped node are removed. k0s: pkg/cleanup.
//! The binary, `/etc/k0s` and images of other runtimes stay.

use std::net::IpAddr;
use std::path::Path;

use cri::Runtime as _;

use crate::config::ClusterConfig;
use crate::paths::Paths;
use crate::worker;

/// Takes the node off the host; gives what went wrong, step by step.
pub async fn reset(config: &ClusterConfig, paths: &Paths) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |step: &str, done: Result<(), String>| {
        if let Err(why) = done {
            problems.push(format!("{step}: {why}"));
        }
    };
    note("remove pods", pods(config, paths).await);
    note("remove control groups", groups(paths));
    note(
        "remove the pod network",
        match worker::pod_network(config, paths) {
            Ok(network) => network.tear_down().await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        },
    );
    let rules = network::proxy::clean_up().await;
    note("remove service rules", rules.map_err(|e| e.to_string()));
    let dns = network::remove_local_address(IpAddr::V4(config.dns_ip()));
    note(
        "remove the cluster DNS address",
        dns.map_err(|e| e.to_string()),
    );
    for dir in [&paths.run, &paths.data] {
        note("unmount", unmount(dir));
        note("remove directories", remove(dir));
    }
    problems
}

async fn pods(config: &ClusterConfig, paths: &Paths) -> Result<(), String> {
    if !paths.data.join("runtime").exists() {
        return Ok(());
    }
    let images = crate::ctr::open(paths).map_err(|e| e.to_string())?;
    let network = worker::pod_network(config, paths).map_err(|e| e.to_string())?;
    // Nobody asks it for its version.
    let runtime = worker::open_runtime(paths, &images, &network, "").map_err(|e| e.to_string())?;
    let sandboxes = runtime.list_pod_sandboxes().await;
    let mut failed = Vec::new();
    for s in sandboxes.map_err(|e| e.to_string())? {
        let done = async {
            runtime.stop_pod_sandbox(&s.id).await?;
            runtime.remove_pod_sandbox(&s.id).await
        };
        if let Err(e) = done.await {
            failed.push(format!("{}/{}: {e}", s.metadata.namespace, s.metadata.name));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

/// The groups that pods were in: a root of this node's own goes as a whole, of the hierarchies' tops only
/// what is ours.
fn groups(paths: &Paths) -> Result<(), String> {
    let root = paths.cgroup_root();
    let ours = if root == Path::new("/") {
        "kubepods"
    } else {
        ""
    };
    let all = linux::cgroup::Cgroups::open(&root).map_err(|e| e.to_string())?;
    all.remove(ours).map_err(|e| e.to_string())
}

/// Unmounts what lies below a directory; one that is a mount of its own stays.
fn unmount(dir: &Path) -> Result<(), String> {
    let mounts = linux::volume::mounts_below(dir).map_err(|e| e.to_string())?;
    for mount in mounts.iter().filter(|m| *m != dir) {
        linux::volume::unmount(mount).map_err(|e| format!("{}: {e}", mount.display()))?;
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(format!("{}: {e}", dir.display())),
    }
}
