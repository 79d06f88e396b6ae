//! The reference: upstream's generic API server and etcd, as `run-reference` starts them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use kube::Client;

/// A running reference; stopped when dropped.
pub struct Reference {
    child: Child,
    /// How it is reached.
    pub config: kube::Config,
    pub client: Client,
    /// The API server's and etcd's.
    pub pids: Vec<u32>,
}

impl Reference {
    fn script() -> PathBuf {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.unwrap_or_default()
            .join(".cache/upstream/bin/run-reference")
    }

    /// Whether it can be started here.
    pub fn is_installed() -> bool {
        let script = Self::script();
        script.is_file() && script.with_file_name("refapi").is_file()
    }

    /// Starts it; `None` where it is not installed.
    pub async fn start() -> Result<Option<Self>> {
        if !Self::is_installed() {
            return Ok(None);
        }
        let script = Self::script();
        let mut child = Command::new(&script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| script.display().to_string())?;
        let out = child.stdout.take().context("its output")?;
        let mut path = String::new();
        BufReader::new(out).read_line(&mut path)?;
        let path = Path::new(path.trim());
        let kubeconfig = kube::config::Kubeconfig::read_from(path)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        // The first answer counts, be it a 504.
        config.default_retry = false;
        let pids = std::fs::read_to_string(path.with_file_name("pids"))?;
        let pids = pids
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let client = Client::try_from(config.clone())?;
        Ok(Some(Self {
            child,
            config,
            client,
            pids,
        }))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // The script takes its programs and files down on TERM; with it gone there is nothing to do.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}
