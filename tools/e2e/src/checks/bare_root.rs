//! A root directory with the binary, /proc, /sys, /dev and a data directory: a node starts there, runs a
//! pod, and executes nothing but itself. Uses Debian's strace to see every exec.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Outcome, until};
use crate::binary;
use crate::cluster::{PROFILES, run as program};

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
    let root = Root::make()?;
    let log_file = root.beside("log");
    let trace = root.beside("trace");
    let mut node = Command::new(strace)
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=execve,execveat",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(&trace)
        .arg(&root.chroot)
        .arg(&root.path)
        .args(["/k0s", "controller", "--single", "--data-dir", "/data"])
        .args(["--config", "/data/k0s.yaml"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log_file)?)
        .spawn()?;
    let done = pod_runs(&root, &mut node);
    let done = done.and_then(|()| root.k0s(&["stop"]).map(drop));
    // Ends the keepers, and with them the trace.
    let reset = root.k0s(&["reset"]);
    if done.is_err() || reset.is_err() {
        node.kill()?;
    }
    node.wait()?;
    let log = std::fs::read_to_string(&log_file).unwrap_or_default();
    done.and(reset)
        .with_context(|| format!("the node logged:\n{log}"))?;
    check(&std::fs::read_to_string(&trace)?)
}

/// Waits for the pod's output, and asks for it as users do.
fn pod_runs(root: &Root, node: &mut Child) -> Result<()> {
    until("the pod's output", || {
        if let Some(status) = node.try_wait()? {
            bail!("the node ended with {status}");
        }
        let said = root.k0s(&["kubectl", "logs", "once"])?;
        Ok((said == "ran in once\n").then_some(()))
    })
}

/// A root directory for a node: what is mounted into it goes before the directory does.
struct Root {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
    /// The program that goes there.
    chroot: PathBuf,
}

impl Root {
    fn make() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("root");
        for sub in ["proc", "sys", "dev", "data/manifests/once", "data/images"] {
            std::fs::create_dir_all(path.join(sub))?;
        }
        std::fs::copy(binary::k0s(), path.join("k0s"))?;
        std::fs::write(path.join("data/manifests/once/pod.yaml"), POD)?;
        let config = format!("spec: {{workerProfiles: {PROFILES}}}\n");
        std::fs::write(path.join("data/k0s.yaml"), config)?;
        let busybox = binary::images().join("busybox.tar");
        std::fs::copy(&busybox, path.join("data/images/busybox.tar"))
            .with_context(|| format!("{}: run cargo xtask images", busybox.display()))?;
        let root = Self {
            dir: Some(dir),
            path,
            chroot: find("chroot").context("no chroot program")?,
        };
        // As every machine's root, this one is a mount: a container's root could not be changed otherwise.
        let bind = |from: &Path, to: &Path| {
            program(Command::new("mount").arg("--rbind").arg(from).arg(to)).map(drop)
        };
        bind(&root.path, &root.path)?;
        for what in ["proc", "sys", "dev"] {
            bind(&Path::new("/").join(what), &root.path.join(what))?;
        }
        Ok(root)
    }

    /// A file beside the root.
    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Runs the root's k0s in it.
    fn k0s(&self, args: &[&str]) -> Result<String> {
        program(
            Command::new(&self.chroot)
                .arg(&self.path)
                .arg("/k0s")
                .args(args)
                .args(["--data-dir", "/data"])
                .env_clear(),
        )
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let done = program(Command::new("umount").args(["-R", "-l"]).arg(&self.path));
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let path = self.path.display().to_string();
        if mounted.contains(&path)
            && let Some(dir) = self.dir.take()
        {
            // Removing it would remove the machine's devices.
            eprintln!("{} stays: {done:?}", dir.keep().display());
        }
    }
}

/// Every program that was executed, or looked for, is the node itself, or runs in the container.
fn check(trace: &str) -> Result<Outcome> {
    // Where another process came between, a call's second line says that it is resumed.
    let begins = |l: &&str| l.contains(" execve(") || l.contains(" execveat(");
    let mut calls = trace.lines().filter(begins);
    let first = calls.next().context("nothing was executed")?;
    ensure!(path_of(first).ends_with("/chroot"), "first: {first}");
    let (mut own, mut contained) = (0, BTreeSet::new());
    for line in calls {
        let process = line.split(' ').next().unwrap_or_default();
        match path_of(line) {
            // The root itself has no shell: this is the pod's command.
            "/bin/sh" if contained.is_empty() => {
                contained.insert(process);
            }
            _ if contained.contains(process) => {}
            "/k0s" | "/proc/self/exe" => own += 1,
            other => bail!("{other} was executed: {line}"),
        }
    }
    ensure!(own >= 3, "node, keeper and init stage were not seen: {own}");
    ensure!(contained.len() == 1, "the pod's command was not seen");
    Ok(Outcome::Passed)
}

/// The path of an exec: `PID execve("PATH", ...`.
fn path_of(line: &str) -> &str {
    line.split('"').nth(1).unwrap_or_default()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn foreign_programs_are_found_even_where_they_are_missing() {
        let own = "1 execve(\"/usr/sbin/chroot\", [], 0x1) = 0\n1 execve(\"/k0s\", [], 0x1) = 0\n2 execve(\"/proc/self/exe\", [], 0x1 <unfinished ...>\n2 <... execve resumed>) = 0\n3 execve(\"/proc/self/exe\", [], 0x1) = 0\n3 execve(\"/bin/sh\", [], 0x1) = 0\n3 execve(\"/bin/busybox\", [], 0x1) = 0\n";
        assert!(check(own).is_ok());
        assert!(check("").is_err());
        for more in [
            "4 execve(\"/sbin/modprobe\", [], 0x1) = -1 ENOENT (No such file or directory)",
            "4 execveat(5, \"mount\", [], 0x1, 0) = 0",
            "4 execve(\"/bin/sh\", [], 0x1) = 0",
        ] {
            assert!(check(&format!("{own}{more}\n")).is_err(), "{more}");
        }
    }
}
