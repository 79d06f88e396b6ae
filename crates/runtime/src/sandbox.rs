//! Pod sandboxes: a keeper with namespaces, a network, a control group, and the files all containers share.

use std::collections::BTreeMap;
use std::fs;
use std::io::Seek;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cri::{
    ContainerEventKind, DnsConfig, Error, ErrorKind, NamespaceMode, PodNetworkRequest,
    PodSandboxConfig, PodSandboxState, PodSandboxStatus,
};
use linux::cgroup::{Limits, Weight};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use tokio::io::AsyncBufReadExt;
use tokio::sync::watch;

use crate::client::{self, Call};
use crate::disk::{self, Phase, SandboxRecord, failed};
use crate::limits::{KEEPER_PATIENCE, KILL_PATIENCE};
use crate::plan::KeeperPlan;
use crate::protocol::{KeeperReady, Reply, Request};
use crate::{Core, new_id, stages};

/// As upstream's pause container.
const OOM_SCORE_ADJ: i64 = -998;

/// One sandbox.
pub struct Sandbox {
    pub id: String,
    pub record: Mutex<SandboxRecord>,
    /// One change at a time.
    pub operation: tokio::sync::Mutex<()>,
    /// Whether its keeper lives.
    pub alive: watch::Sender<bool>,
}

// === Sandbox ===

impl Sandbox {
    pub fn new(record: SandboxRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            operation: tokio::sync::Mutex::default(),
            alive: watch::Sender::new(false),
        })
    }

    /// Group of its keeper.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.record.lock().config.cgroup_parent, self.id)
    }

    pub fn status(&self) -> PodSandboxStatus {
        let record = self.record.lock();
        let ready = record.phase == Phase::Ready && *self.alive.borrow();
        let ips = record.network.iter().flat_map(|n| &n.ips);
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: record.config.metadata.clone(),
            state: match ready {
                true => PodSandboxState::Ready,
                false => PodSandboxState::NotReady,
            },
            created_at: record.created_at,
            ips: ips.map(ToString::to_string).collect(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            namespaces: record.config.namespaces,
            keeper_pid: if *self.alive.borrow() {
                record.keeper_pid
            } else {
                0
            },
            netns_path: match (&record.netns, record.phase) {
                (Some(path), Phase::Ready) => path.display().to_string(),
                _ => String::new(),
            },
        }
    }

    fn network_request(&self) -> Option<PodNetworkRequest> {
        let record = self.record.lock();
        let netns = record.netns.as_ref()?;
        let (config, meta) = (&record.config, &record.config.metadata);
        let bandwidth = |name: &str| {
            let text = config
                .annotations
                .get(&format!("kubernetes.io/{name}-bandwidth"));
            text.and_then(|t| parse_bandwidth(t))
        };
        Some(PodNetworkRequest {
            sandbox_id: self.id.clone(),
            netns_path: netns.display().to_string(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            port_mappings: config.port_mappings.clone(),
            ingress_bandwidth: bandwidth("ingress"),
            egress_bandwidth: bandwidth("egress"),
        })
    }
}

// === Core ===

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
        // Reaped by `follow_keeper`, through its process descriptor.
        let child = command.spawn();
        let child = child.map_err(|e| Error::internal(format!("start the keeper: {e}")))?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
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

    /// Watches a keeper from now on: containers that end, and its own end.
    pub(crate) async fn follow_keeper(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
    ) -> Result<(), Error> {
        let call = Call::connect(&self.disk.sandbox_run(&sandbox.id))?;
        let fail = |e: rustix::io::Errno| Error::internal(format!("open the keeper: {e}"));
        let pid = Pid::from_raw(call.pid).ok_or_else(|| Error::internal("keeper has no id"))?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(fail)?;
        let fd = crate::streams::watch(fd)
            .map_err(|e| Error::internal(format!("open the keeper: {e}")))?;
        call.send(&Request::Watch, &[]).await?;
        sandbox.record.lock().keeper_pid = call.pid;
        sandbox.alive.send_replace(true);
        let (runtime, sandbox) = (self.clone(), sandbox.clone());
        tokio::spawn(async move {
            while let Ok(Some((reply, _))) = call.receive().await {
                if let Reply::Exited { container, .. } = reply {
                    runtime.container_ended(&container);
                }
            }
            if let Err(error) = fd.readable().await {
                tracing::warn!(sandbox = %sandbox.id, %error, "wait for a keeper's end");
            }
            // Not ours to reap where an earlier daemon started it.
            let _not_ours = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            runtime.keeper_ended(&sandbox);
        });
        Ok(())
    }

    /// A keeper is gone: whatever ran in its sandbox must be too.
    pub(crate) fn keeper_ended(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        sandbox.alive.send_replace(false);
        for container in self.containers_of(&sandbox.id) {
            self.lose_container(&container);
        }
        if sandbox.record.lock().phase != Phase::Ready || sandbox.operation.try_lock().is_err() {
            return;
        }
        tracing::warn!(sandbox = %sandbox.id, "a sandbox's keeper ended unasked");
        self.announce(ContainerEventKind::SandboxLost, &sandbox.id, "");
    }

    pub(crate) async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else {
            return Ok(());
        };
        let _one = sandbox.operation.lock().await;
        if sandbox.record.lock().phase == Phase::NotReady {
            return Ok(());
        }
        self.unmake_sandbox(&sandbox).await?;
        self.set_phase(&sandbox, Phase::NotReady)?;
        self.announce(ContainerEventKind::Stopped, id, "");
        Ok(())
    }

    /// Ends everything of a sandbox and takes down what it holds outside of `root`. Idempotent.
    pub(crate) async fn unmake_sandbox(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
    ) -> Result<(), Error> {
        let run = self.disk.sandbox_run(&sandbox.id);
        // No keeper, or one that does not answer: its group is killed below.
        if client::ask(&run, &Request::Shutdown).await.is_ok() {
            let mut alive = sandbox.alive.subscribe();
            let ended = alive.wait_for(|alive| !alive);
            if tokio::time::timeout(KEEPER_PATIENCE, ended).await.is_err() {
                tracing::warn!(sandbox = %sandbox.id, "a keeper does not end and is killed");
            }
        }
        let mut groups = vec![sandbox.cgroup()];
        let containers = self.containers_of(&sandbox.id);
        groups.extend(containers.iter().map(|c| c.record.cgroup.clone()));
        self.blocking(move |r| {
            for group in &groups {
                let killed = r.cgroups.kill_and_wait(group, KILL_PATIENCE);
                killed.map_err(|e| Error::internal(e.to_string()))?;
            }
            Ok(())
        })
        .await?;
        for container in &containers {
            self.lose_container(container);
        }
        if let Some(request) = sandbox.network_request() {
            self.network.del(&request).await.map_err(|e| {
                let text = format!(
                    "failed to destroy network for sandbox {:?}: {}",
                    sandbox.id, e.message
                );
                Error::new(e.kind, text)
            })?;
        }
        let (id, cgroup) = (sandbox.id.clone(), sandbox.cgroup());
        self.blocking(move |r| {
            r.disk.clear_run(&id)?;
            let removed = r.cgroups.remove(&cgroup);
            removed.map_err(|e| Error::internal(e.to_string()))
        })
        .await
    }

    pub(crate) async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else {
            return Ok(());
        };
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.delete_container(&container.record.id).await?;
        }
        let _one = sandbox.operation.lock().await;
        self.announce(ContainerEventKind::Deleted, id, "");
        self.forget_sandbox(&sandbox)
    }

    /// Removes a stopped sandbox from disk and memory.
    pub(crate) fn forget_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        if let Some(trash) = self.disk.discard(&self.disk.sandbox(&sandbox.id))? {
            fs::remove_dir_all(&trash).map_err(|e| failed("remove", &trash, e))?;
        }
        let parent = sandbox.record.lock().config.cgroup_parent.clone();
        self.sandboxes.lock().remove(&sandbox.id);
        let used = |s: &Arc<Sandbox>| s.record.lock().config.cgroup_parent == parent;
        if !parent.is_empty() && !self.sandboxes.lock().values().any(used) {
            // Groups that others made below keep it alive, and whoever made them removes it.
            if let Err(error) = self.cgroups.remove(&parent) {
                tracing::debug!(%error, "a pod's control group stays");
            }
        }
        Ok(())
    }

    pub(crate) fn set_phase(&self, sandbox: &Sandbox, phase: Phase) -> Result<(), Error> {
        let record = {
            let mut record = sandbox.record.lock();
            record.phase = phase;
            record.clone()
        };
        disk::write(
            &self.disk.sandbox(&sandbox.id).join("sandbox.json"),
            &record,
        )
    }
}

fn keeper_plan(runtime: &Core, record: &SandboxRecord, run: &Path, cgroup: &str) -> KeeperPlan {
    let namespaces = record.config.namespaces;
    let own_network = record.netns.is_some();
    let new_ipc = namespaces.ipc != NamespaceMode::Node;
    // What containerd enables for every pod: ping and low ports without capabilities.
    let mut sysctls = BTreeMap::new();
    if own_network {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    sysctls.extend(record.config.sysctls.clone());
    KeeperPlan {
        id: record.id.clone(),
        run: run.to_owned(),
        netns: record.netns.clone(),
        new_ipc,
        hostname: own_network.then(|| record.hostname.clone()),
        shared_pid: namespaces.pid == NamespaceMode::Pod,
        shm: new_ipc.then(|| runtime.disk.shm(&record.id)),
        sysctls: sysctls.into_iter().collect(),
        cgroup_procs: runtime.cgroups.procs_files(cgroup),
        oom_score_adj: OOM_SCORE_ADJ,
    }
}

fn pod_limits(config: &PodSandboxConfig) -> Option<Limits> {
    let resources = config.pod_resources.as_ref()?;
    let limit = |n: i64| (n != 0).then_some(n);
    Some(Limits {
        cpu_shares: (resources.cpu_shares > 0).then_some(resources.cpu_shares),
        cpu_weight: Weight::Linear,
        cpu_quota: limit(resources.cpu_quota),
        cpu_period: (resources.cpu_quota != 0).then_some(100_000),
        memory_max: limit(resources.memory_limit_bytes),
        pids_max: limit(resources.pids_limit),
        ..Limits::default()
    })
}

/// resolv.conf(5) as containerd writes it.
fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// Bits a second from a quantity with a decimal suffix (`10M`, `1G`, `500k`).
fn parse_bandwidth(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn node_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// A file in memory that holds a record, to be read from its start.
pub(crate) fn memory_file<T: serde::Serialize>(name: &str, record: &T) -> Result<OwnedFd, Error> {
    let fail = |e: std::io::Error| Error::internal(format!("write plan: {e}"));
    let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| fail(e.into()))?;
    let mut file = fs::File::from(fd);
    serde_json::to_writer(&mut file, record).map_err(|e| fail(e.into()))?;
    file.rewind().map_err(fail)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_searches_then_servers_then_options() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec![
                "default.svc.cluster.local".into(),
                "svc.cluster.local".into(),
            ],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn bandwidths_are_quantities() {
        assert_eq!(parse_bandwidth("10M"), Some(10_000_000));
        assert_eq!(parse_bandwidth("1Gi"), Some(1 << 30));
        assert_eq!(parse_bandwidth("fast"), None);
    }
}
