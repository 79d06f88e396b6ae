//! A cluster of its own for a test: the release binary on free ports in a directory of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binary;

/// How long a node may take to become ready.
const START: Duration = Duration::from_secs(60);

/// `spec.workerProfiles` of a node under test. A machine that builds and tests may have less of its disk free than a node
/// wants before it takes pods (15 %), and that is no matter of the test.
pub const PROFILES: &str = r#"[{name: default, values: {imageGCHighThresholdPercent: 100, imageGCLowThresholdPercent: 99,
 evictionHard: {memory.available: 100Mi, nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%"}}}]"#;

/// A running single node; stopped and removed when dropped.
pub struct Cluster {
    child: Child,
    dir: tempfile::TempDir,
    pub port: u16,
}

// === Cluster ===

impl Cluster {
    /// Starts a node without images and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_in(tempfile::tempdir()?)
    }

    /// Starts a node that has the test images (`cargo xtask images`) as air-gap bundles.
    pub fn with_images() -> Result<Self> {
        let mut cluster = Self::launch(|_| true)?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Starts a node that has some of the test images, chosen by their archives' names, and does not
    /// wait for it.
    pub fn launch(wanted: impl Fn(&str) -> bool) -> Result<Self> {
        Self::launch_with("{}", wanted)
    }

    /// The same with `spec.storage` of the configuration.
    pub fn launch_with(storage: &str, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let bundles = dir.path().join("data/images");
        std::fs::create_dir_all(&bundles)?;
        let built = binary::images();
        for file in std::fs::read_dir(&built).context("test images: run cargo xtask images")? {
            let file = file?;
            if file.file_name().to_str().is_some_and(&wanted) {
                std::os::unix::fs::symlink(file.path(), bundles.join(file.file_name()))?;
            }
        }
        Self::launch_in(dir, storage)
    }

    fn start_in(dir: tempfile::TempDir) -> Result<Self> {
        let mut cluster = Self::launch_in(dir, "{}")?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The same in a folder that may hold a data directory already.
    pub fn launch_in(dir: tempfile::TempDir, storage: &str) -> Result<Self> {
        Self::launch_configured(dir, storage, &[])
    }

    /// The same with flags of the API server.
    pub fn launch_configured(
        dir: tempfile::TempDir,
        storage: &str,
        flags: &[(&str, String)],
    ) -> Result<Self> {
        let port = free_port()?;
        let flag = |(name, value): &(&str, String)| format!("{name}: {value:?}");
        let flags: Vec<String> = flags.iter().map(flag).collect();
        let api = format!("{{port: {port}, extraArgs: {{{}}}}}", flags.join(", "));
        let config =
            format!("spec: {{api: {api}, storage: {storage}, workerProfiles: {PROFILES}}}\n");
        std::fs::write(dir.path().join("k0s.yaml"), config)?;
        let child = spawn(dir.path())?;
        Ok(Self { child, dir, port })
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("pki/admin.conf")
    }

    /// Process id of the node.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs k0s against this node and gives what it printed.
    pub fn k0s(&self, args: &[&str]) -> Result<String> {
        run(Command::new(binary::k0s())
            .args(args)
            .arg("--data-dir")
            .arg(self.data_dir()))
    }

    /// Runs a real kubectl against this node; an error where it fails.
    pub fn kubectl(&self, kubectl: &Path, args: &[&str]) -> Result<String> {
        run(Command::new(kubectl)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig()))
    }

    /// Kills the node with SIGKILL and starts it anew on the same data.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(self.dir.path())?;
        self.wait_ready()
    }

    /// Sends SIGKILL and does not wait for the end.
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Stops the node as asked and starts it anew on the same data.
    pub fn stop_and_restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch_again()?;
        self.wait_ready()
    }

    /// Stops the node as asked.
    pub fn stop(&mut self) -> Result<()> {
        self.k0s(&["stop"])?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a stopped node on the same data and does not wait for it.
    pub fn launch_again(&mut self) -> Result<()> {
        self.child = spawn(self.dir.path())?;
        Ok(())
    }

    /// What the node logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until the node is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            if self.k0s(&["status"]).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("k0s ended with {status} at its start:\n{}", self.log());
            }
            if Instant::now() > end {
                bail!(
                    "k0s was not ready in {} s:\n{}",
                    START.as_secs(),
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A node that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(error) = self.k0s(&["reset"]) {
            eprintln!("the node of a test is not taken down: {error:#}");
        }
    }
}

fn spawn(dir: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))?;
    let binary = binary::k0s();
    Command::new(&binary)
        .args(["controller", "--single", "--config"])
        .arg(dir.join("k0s.yaml"))
        .arg("--data-dir")
        .arg(dir.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a program; standard output, or an error with both outputs.
pub fn run(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let errors = String::from_utf8_lossy(&out.stderr);
        bail!("{command:?} ended with {}: {text}{errors}", out.status);
    }
    Ok(text)
}
