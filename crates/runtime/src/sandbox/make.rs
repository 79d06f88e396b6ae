//! Making a sandbox.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cri::{ContainerEventKind, Error, ErrorKind, NamespaceMode, PodSandboxConfig};
use tokio::io::AsyncBufReadExt;

use super::plan::{keeper_plan, node_name, pod_limits, resolv_conf};
use super::{Sandbox, memory_file};
use crate::disk::{self, Phase, SandboxRecord, failed};
use crate::limits::KEEPER_PATIENCE;
use crate::protocol::KeeperReady;
use crate::{Core, new_id, stages};

impl Core {
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        config: PodSandboxConfig,
    ) -> Result<String, Error> {
        let (sandbox, is_new) = self.claim_sandbox(config)?;
        let _one = sandbox.operation.lock().await;
        if !is_new {
            return match sandbox.record.lock().phase {
                Phase::Ready => Ok(sandbox.id.clone()),
                _ => Err(Error::new(
                    ErrorKind::FailedPrecondition,
                    format!("sandbox {:?} of this attempt is not ready", sandbox.id),
                )),
            };
        }
        let made = self.make_sandbox(&sandbox).await;
        if let Err(error) = made {
            if let Err(e) = self.unmake_sandbox(&sandbox).await {
                tracing::warn!(sandbox = %sandbox.id, error = %e, "clean up a failed sandbox");
            }
            self.forget_sandbox(&sandbox)?;
            return Err(error);
        }
        self.announce(ContainerEventKind::Created, &sandbox.id, "");
        self.announce(ContainerEventKind::Started, &sandbox.id, "");
        Ok(sandbox.id.clone())
    }

    /// The sandbox of a pod's attempt; the second is whether it is to be made.
    fn claim_sandbox(&self, config: PodSandboxConfig) -> Result<(Arc<Sandbox>, bool), Error> {
        let mut all = self.sandboxes.lock();
        let meta = &config.metadata;
        let same = |s: &&Arc<Sandbox>| {
            let m = &s.record.lock().config.metadata;
            (&m.uid, m.attempt) == (&meta.uid, meta.attempt)
        };
        if let Some(there) = all.values().find(same) {
            return Ok((there.clone(), false));
        }
        let id = new_id();
        let netns = match config.namespaces.network {
            NamespaceMode::Node => None,
            _ => Some(self.disk.netns(&id)),
        };
        let hostname = match (&netns, config.hostname.as_str()) {
            (Some(_), name) if !name.is_empty() => name.to_owned(),
            _ => node_name(),
        };
        let record = SandboxRecord {
            id: id.clone(),
            config,
            created_at: crate::clock::now(),
            phase: Phase::Creating,
            network: None,
            netns,
            keeper_pid: 0,
            hostname,
        };
        let dir = self.disk.sandbox(&id);
        fs::create_dir(&dir).map_err(|e| failed("create", &dir, e))?;
        disk::write(&dir.join("sandbox.json"), &record)?;
        let sandbox = Sandbox::new(record);
        all.insert(id, sandbox.clone());
        Ok((sandbox, true))
    }

    async fn make_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let of = sandbox.clone();
        let output = self.blocking(move |r| r.spawn_keeper(&of)).await?;
        let output = tokio::net::unix::pipe::Receiver::from_owned_fd(output)
            .map_err(|e| Error::internal(format!("listen to the keeper: {e}")))?;
        let mut line = String::new();
        let mut output = tokio::io::BufReader::new(output);
        let read = tokio::time::timeout(KEEPER_PATIENCE, output.read_line(&mut line)).await;
        let ready = match read {
            Ok(Ok(_)) => serde_json::from_str(&line),
            Ok(Err(e)) => return Err(Error::internal(format!("listen to the keeper: {e}"))),
            Err(_) => return Err(Error::internal("the sandbox's keeper does not get ready")),
        };
        match ready {
            Ok(KeeperReady::Ready) => {}
            Ok(KeeperReady::Failed { message }) => return Err(Error::internal(message)),
            Err(_) => return Err(Error::internal("the sandbox's keeper ended early")),
        }
        self.follow_keeper(sandbox).await?;
        if let Some(request) = sandbox.network_request() {
            let added = self.network.add(&request).await.map_err(|e| {
                let text = format!(
                    "failed to setup network for sandbox {:?}: {}",
                    sandbox.id, e.message
                );
                Error::new(e.kind, text)
            })?;
            sandbox.record.lock().network = Some(added);
        }
        self.set_phase(sandbox, Phase::Ready)
    }

    /// Group, files and process of a sandbox; gives the keeper's standard output.
    fn spawn_keeper(&self, sandbox: &Sandbox) -> Result<OwnedFd, Error> {
        let record = sandbox.record.lock().clone();
        let cgroup = sandbox.cgroup();
        let grouped = |e: linux::cgroup::Error| Error::internal(e.to_string());
        self.cgroups.create(&cgroup).map_err(grouped)?;
        if let Some(limits) = pod_limits(&record.config) {
            let parent = &record.config.cgroup_parent;
            self.cgroups.apply(parent, &limits).map_err(grouped)?;
        }
        let run = self.disk.sandbox_run(&sandbox.id);
        fs::create_dir(&run).map_err(|e| failed("create", &run, e))?;
        self.write_files(&record, &run)?;
        let plan = keeper_plan(self, &record, &run, &cgroup);
        let input = memory_file("k0s-keeper", &plan)?;
        let log = run.join("keeper.log");
        let log = fs::File::create(&log).map_err(|e| failed("create", &log, e))?;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::internal(format!("pipe: {e}")))?;
        let meta = &record.config.metadata;
        let mut command = Command::new(&self.exe);
        command
            .arg0(stages::KEEPER)
            .arg(format!("{}/{}", meta.namespace, meta.name))
            .arg(&sandbox.id)
            .env_clear()
            .envs(stages::ENVIRONMENT.iter().copied())
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::from(log));
        let child = command.spawn();
        let child = child.map_err(|e| Error::internal(format!("start the keeper: {e}")))?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        *sandbox.child.lock() = Some(child);
        sandbox.record.lock().keeper_pid = pid;
        let record = sandbox.record.lock().clone();
        disk::write(
            &self.disk.sandbox(&sandbox.id).join("sandbox.json"),
            &record,
        )?;
        Ok(ours)
    }

    fn write_files(&self, record: &SandboxRecord, run: &Path) -> Result<(), Error> {
        let write = |name: &str, text: String| {
            let path = run.join(name);
            fs::write(&path, text).map_err(|e| failed("write", &path, e))?;
            // Readable by every user of every container.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            fs::set_permissions(&path, mode).map_err(|e| failed("set mode of", &path, e))
        };
        write("hostname", format!("{}\n", record.hostname))?;
        let resolv = match &record.config.dns {
            Some(dns) => resolv_conf(dns),
            None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        write("resolv.conf", resolv)
    }
}
