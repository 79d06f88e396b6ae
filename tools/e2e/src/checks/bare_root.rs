//! A root directory with the binary, /proc, /sys, /dev and a data directory: a node starts there, runs a
//! pod, and executes nothing but itself. Uses Debian's strace to see every execve.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Outcome, until};
use crate::binary;
use crate::cluster::run as program;

const POD: &str = r#"apiVersion: v1
kind: Pod
metadata: {name: once, namespace: default}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
  - {name: c, image: "registry.k8s.io/e2e-test-images/busybox:1.37.0-2", command: [/bin/sh, -c, "echo ran in $HOSTNAME"]}
"#;

pub fn run() -> Result<Outcome> {
    let Some(strace) = find("strace") else {
        return Ok(Outcome::Skipped("strace is not installed".into()));
    };
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    for sub in ["proc", "sys", "dev", "data/manifests/once", "data/images"] {
        std::fs::create_dir_all(root.join(sub))?;
    }
    std::fs::copy(binary::k0s(), root.join("k0s"))?;
    std::fs::write(root.join("data/manifests/once/pod.yaml"), POD)?;
    let busybox = binary::images().join("busybox.tar");
    std::fs::copy(&busybox, root.join("data/images/busybox.tar"))
        .with_context(|| format!("{}: run cargo xtask images", busybox.display()))?;
    for (what, args) in [("proc", "--rbind"), ("sys", "--rbind"), ("dev", "--rbind")] {
        let target = root.join(what);
        program(
            Command::new("mount")
                .arg(args)
                .arg(format!("/{what}"))
                .arg(&target),
        )?;
    }
    let trace = dir.path().join("trace");
    let log = std::fs::File::create(dir.path().join("log"))?;
    let mut node = Command::new(strace)
        .args(["-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg("chroot")
        .arg(&root)
        .args(["/k0s", "controller", "--single", "--data-dir", "/data"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let done = until("the pod's output", || {
        let said = find_log(&root.join("data/log/pods"))?;
        Ok(said.filter(|s| s.contains("ran in once")))
    });
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    program(
        Command::new("chroot")
            .arg(&root)
            .args(["/k0s", "stop", "--data-dir", "/data"]),
    )?;
    node.wait()?;
    done.with_context(|| format!("the node logged:\n{log}"))?;
    program(
        Command::new("chroot")
            .arg(&root)
            .args(["/k0s", "reset", "--data-dir", "/data"]),
    )?;
    for what in ["dev", "sys", "proc"] {
        program(Command::new("umount").arg("-l").arg(root.join(what)))?;
    }
    check(&std::fs::read_to_string(&trace)?)
}

/// Every program that was executed is the node itself, or the pod's command.
fn check(trace: &str) -> Result<Outcome> {
    let mut own = 0;
    for line in trace
        .lines()
        .filter(|l| l.contains("execve(") && l.ends_with("= 0"))
    {
        let path = line.split('"').nth(1).unwrap_or_default();
        match path {
            "/k0s" | "/proc/self/exe" => own += 1,
            // strace's own child, and the command of the container: the root itself has no shell.
            "/bin/sh" => {}
            p if p.ends_with("/chroot") => {}
            other => anyhow::bail!("{other} was executed: {line}"),
        }
    }
    ensure!(own >= 3, "node, keeper and init stage were not seen: {own}");
    Ok(Outcome::Passed)
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
}

/// The text of the first container's log below a folder.
fn find_log(dir: &Path) -> Result<Option<String>> {
    for pod in std::fs::read_dir(dir)?.flatten() {
        let file = pod.path().join("c/0.log");
        if let Ok(text) = std::fs::read_to_string(file) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
