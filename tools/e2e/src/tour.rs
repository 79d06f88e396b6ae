//! The commands of README's tour, on the release binary, with a real kubectl where one is installed.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, ensure};

use crate::binary;
use crate::cluster::Cluster;

/// Runs the tour; each failure names its command.
pub fn run() -> Result<()> {
    let mut cluster = Cluster::with_images()?;
    commands(&cluster)?;
    match binary::kubectl() {
        Some(kubectl) => {
            with_kubectl(&mut cluster, &kubectl)?;
            workloads(&cluster, &kubectl)?;
        }
        None => eprintln!("SKIPPED: the tour with kubectl: none is installed"),
    }
    own_kubectl(&cluster)?;
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
    crate::checks::until("the air-gap images are there", || {
        let images = cluster.k0s(&["ctr", "images", "ls", "-q"])?;
        Ok(images.contains("busybox").then_some(()))
    })?;
    let checked = cluster.k0s(&["sysinfo"])?;
    ensure!(
        checked.contains("Linux kernel release") && !checked.contains("rejected"),
        "sysinfo printed {checked}"
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

/// The node's own kubectl.
fn own_kubectl(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.k0s(&["kubectl", "get", "nodes"])?;
    ensure!(nodes.contains(" Ready "), "k0s kubectl printed {nodes}");
    web(&ours(cluster))?;
    let missing = cluster.k0s(&["kubectl", "kuberc", "view"]).err();
    let missing = missing.context("k0s kubectl kuberc did not fail")?;
    ensure!(
        missing.to_string().contains("is not there yet"),
        "k0s kubectl kuberc said {missing}"
    );
    Ok(())
}

/// A kubectl on the cluster: how it is run.
type Kubectl<'a> = dyn Fn(&[&str]) -> std::process::Command + 'a;

/// README's workloads with a kubectl of upstream's, and with the node's own.
fn workloads(cluster: &Cluster, kubectl: &std::path::Path) -> Result<()> {
    let theirs = |args: &[&str]| {
        let mut command = std::process::Command::new(kubectl);
        command.args(args).env("KUBECONFIG", cluster.kubeconfig());
        command
    };
    crate::checks::until("the node is registered", || {
        let nodes = crate::cluster::run(&mut theirs(&["get", "nodes", "--output=name"]))?;
        Ok((!nodes.is_empty()).then_some(()))
    })?;
    web(&theirs)
}

fn ours<'a>(cluster: &'a Cluster) -> impl Fn(&[&str]) -> std::process::Command + 'a {
    |args: &[&str]| {
        let mut command = std::process::Command::new(binary::k0s());
        command.arg("kubectl");
        command.arg("--data-dir").arg(cluster.data_dir()).args(args);
        command
    }
}

/// From the manifest to an answer over a forwarded port.
fn web(kubectl: &Kubectl<'_>) -> Result<()> {
    let run = |args: &[&str]| crate::cluster::run(&mut kubectl(args));
    let example = binary::root().join("examples/web.yaml");
    let example = example.to_str().context("the example's path")?;
    let ready = "--for=condition=Ready";
    run(&["wait", ready, "node", "--all", "--timeout=60s"])?;
    run(&["apply", "-f", example])?;
    let rolled = run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    ensure!(
        rolled.contains("successfully rolled out"),
        "rollout status printed {rolled}"
    );
    let pods = run(&["get", "pods", "-o", "wide"])?;
    ensure!(
        pods.matches("Running").count() == 2,
        "get pods printed {pods}"
    );
    let described = run(&["describe", "deployment", "web"])?;
    ensure!(
        described.contains("2 desired | 2 updated | 2 total | 2 available | 0 unavailable"),
        "describe printed {described}"
    );
    let logs = run(&["logs", "deployment/web"])?;
    ensure!(logs.trim() == "serving", "logs printed {logs}");
    let fetched = ["exec", "deployment/web", "--", "wget", "-qO-", "http://web"];
    let said = run(&fetched)?;
    ensure!(said.contains("hello from web-"), "exec printed {said}");
    let mut forward = kubectl(&["port-forward", "service/web", ":80"]);
    let answer = forwarded(&mut forward).with_context(|| format!("{forward:?}"))?;
    ensure!(
        answer.contains("hello from web-"),
        "the forwarded port said {answer}"
    );
    let explained = run(&["explain", "deployment.spec.replicas"])?;
    ensure!(
        explained.contains("FIELD: replicas <integer>"),
        "explain printed {explained}"
    );
    copied(&run)?;
    run(&["scale", "deployment/web", "--replicas=3"])?;
    run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    run(&["delete", "-f", example, "--wait"])?;
    let gone = ["wait", "--for=delete", "pod", "-l", "app=web"];
    run(&[&gone[..], &["--timeout=90s"]].concat())?;
    Ok(())
}

/// A file goes into a pod and comes back.
fn copied(run: &dyn Fn(&[&str]) -> Result<String>) -> Result<()> {
    let first = "jsonpath={.items[0].metadata.name}";
    let pod = run(&["get", "pods", "-l", "app=web", "-o", first])?;
    let folder = tempfile::tempdir()?;
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, "copied\n")?;
    let (there, back) = (there.to_str(), back.to_str());
    let (there, back) = there.zip(back).context("the folder's path")?;
    run(&["cp", there, &format!("{pod}:/tmp/copy")])?;
    run(&["cp", &format!("{pod}:/tmp/copy"), back])?;
    let text = std::fs::read_to_string(back)?;
    ensure!(text == "copied\n", "{text:?} came back");
    Ok(())
}

/// What a web server says through a command that forwards a port.
fn forwarded(command: &mut std::process::Command) -> Result<String> {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    // Open until the end: a writer to a pipe that nobody reads is ended by SIGPIPE.
    let output = child.stdout.take().context("its output");
    let answer = output.and_then(|output| {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        // Forwarding from 127.0.0.1:40000 -> 8080
        let port = line.split(':').nth(1).and_then(|p| p.split(' ').next());
        let port: u16 = port
            .and_then(|p| p.parse().ok())
            .with_context(|| format!("no port in {line:?}"))?;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    // It serves until it is killed.
    let _ = child.kill();
    let _ = child.wait();
    answer
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
