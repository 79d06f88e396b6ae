//! Checks of the whole node that no conformance test makes: workloads outlive it, SIGKILL loses nothing,
//! it needs nothing of the host. One file each, one line each in `CHECKS`.

mod adoption;
mod bare_root;
mod clients;
mod crash;
mod databases;
mod disk;
mod elsewhere;
mod etcd;
mod etcd_cluster;
mod helm;
mod kubectls;
mod leftovers;
mod load;
mod machine;
mod memory;
mod outside;
mod sample_apiserver;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binary;
use crate::cluster::Cluster;

/// One check.
pub struct Check {
    pub name: &'static str,
    pub run: fn() -> Result<Outcome>,
}

/// How a check ended that did not fail.
pub enum Outcome {
    Passed,
    /// Why it cannot run here.
    Skipped(String),
}

/// All checks.
pub const CHECKS: &[Check] = &[
    Check {
        name: "workloads outlive the node: adopted with their containers and logs",
        run: adoption::run,
    },
    Check {
        name: "SIGKILL at random moments loses nothing acknowledged and leaks nothing",
        run: crash::run,
    },
    Check {
        name: "a root that holds nothing but the binary is enough",
        run: bare_root::run,
    },
    Check {
        name: "a node keeps its objects in a real etcd",
        run: etcd::run,
    },
    Check {
        name: "members of a three-member etcd are killed and cut off: nothing acknowledged is lost",
        run: etcd_cluster::run,
    },
    Check {
        name: "a full disk under write load loses nothing acknowledged",
        run: disk::full,
    },
    Check {
        name: "a disk that hangs under write load loses nothing acknowledged",
        run: disk::slow,
    },
    Check {
        name: "memory stays bounded with large lists, watchers that never read and large bodies",
        run: memory::run,
    },
    Check {
        name: "users, decisions, audit events and keys of servers elsewhere, which may hang or lie",
        run: elsewhere::run,
    },
    Check {
        name: "the Python client does what its users do",
        run: clients::python,
    },
    Check {
        name: "kubectls old and new run all their commands",
        run: kubectls::run,
    },
    Check {
        name: "client-go informs, elects, applies and executes",
        run: clients::go,
    },
    Check {
        name: "client-go extends: a controller with a conversion and admission webhooks",
        run: clients::extension,
    },
    Check {
        name: "the sample API server plugs in",
        run: sample_apiserver::run,
    },
    Check {
        name: "helm installs, upgrades, rolls back, tests and uninstalls",
        run: helm::run,
    },
    Check {
        name: "a node keeps its objects in a real PostgreSQL",
        run: databases::postgres,
    },
    Check {
        name: "a node keeps its objects in a real MariaDB",
        run: databases::mariadb,
    },
    Check {
        name: "the first process of a machine of 512 MB that holds a kernel and the binary",
        run: machine::run,
    },
];

/// Those that take minutes: they run only where a pattern names them.
const LONG: &[&str] = &[
    "members of a three-member etcd",
    "a full disk",
    "a disk that hangs",
    "memory stays bounded",
];

impl Check {
    /// Whether it takes minutes.
    pub fn is_long(&self) -> bool {
        LONG.iter().any(|part| self.name.starts_with(part))
    }
}

/// Pods in these tests must not wait longer for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A pod that writes a counted line ten times a second.
const COUNTER: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "counter"},
 "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "registry.k8s.io/e2e-test-images/busybox:1.37.0-2",
  "command": ["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); usleep 100000; done"]}]}}"#;

/// Runs kubectl: a real one where one is installed, else the node's own.
fn kubectl(cluster: &Cluster, args: &[&str]) -> Result<String> {
    match binary::kubectl() {
        Some(real) => cluster.kubectl(&real, args),
        None => {
            let mut all = vec!["kubectl"];
            all.extend(args);
            cluster.k0s(&all)
        }
    }
}

/// Creates an object from its JSON.
fn create(cluster: &Cluster, object: &str) -> Result<()> {
    let file = cluster.data_dir().join("object.json");
    std::fs::write(&file, object)?;
    kubectl(cluster, &["create", "-f", file.to_str().context("a path")?]).map(drop)
}

/// An object as it is.
fn get(cluster: &Cluster, kind: &str, name: &str) -> Result<Value> {
    let text = kubectl(cluster, &["get", kind, name, "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

/// Waits until `done` gives something.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < end {
        match done() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(e) => last = format!("; last: {e:#}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{what}: not within {} s{last}", PATIENCE.as_secs())
}

/// The same for what is asked asynchronously.
async fn until_async<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = done().await {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{what}: not within {} s", PATIENCE.as_secs())
}

/// Waits until a pod runs; gives its first container's id and restarts.
fn running(cluster: &Cluster, pod: &str) -> Result<(String, u64)> {
    until(&format!("pod {pod} runs"), || {
        let pod = get(cluster, "pod", pod)?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["state"]["running"].is_null() {
            bail!("its status is {}", pod["status"]);
        }
        let id = status["containerID"].as_str().unwrap_or_default();
        let restarts = status["restartCount"].as_u64().unwrap_or_default();
        Ok(Some((id.to_string(), restarts)))
    })
}

/// Fails where the lines of the counter's log have a gap or a repeat; gives how many there are.
fn counted(log: &str) -> Result<usize> {
    let mut lines = 0;
    for (n, line) in log.lines().enumerate() {
        if line != format!("line {n}") {
            bail!("line {n} of the log is {line:?}");
        }
        lines = n + 1;
    }
    Ok(lines)
}
