//! Containers: made on disk, started by their sandbox's keeper, known by what the keeper writes.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::{
    ContainerConfig, ContainerEventKind, ContainerState, ContainerStatus, Error, ErrorKind,
    LinuxContainerResources,
};
use linux::cgroup::Limits;
use oci::ResolvedImage;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::client::{self, Call};
use crate::disk::{self, ContainerRecord, Phase, failed};
use crate::limits::{KILL_PATIENCE, START_PATIENCE};
use crate::protocol::{Exit, Reply, Request, StartRequest, Started};
use crate::sandbox::Sandbox;
use crate::spec::{self, Facts, SandboxFiles};
use crate::{Core, new_id};

/// What containerd's CRI plugin puts before the init stage's own words.
const START_FAILED: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: ";

/// Exit code of a container that could not be started, as upstream.
const START_ERROR_CODE: i32 = 128;
/// Exit code of a container whose end nobody saw, as upstream.
const UNKNOWN_CODE: i32 = 255;

/// One container.
pub struct Container {
    pub record: ContainerRecord,
    pub state: Mutex<State>,
    /// One change at a time.
    pub operation: tokio::sync::Mutex<()>,
    /// Whether it ended.
    pub ended: watch::Sender<bool>,
}

/// What changes of a container.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub started: Option<Started>,
    pub exit: Option<Exit>,
    pub resources: LinuxContainerResources,
}

// === Container ===

impl Container {
    pub fn new(record: ContainerRecord, state: State) -> Arc<Self> {
        let ended = watch::Sender::new(state.exit.is_some());
        Arc::new(Self {
            record,
            state: Mutex::new(state),
            operation: tokio::sync::Mutex::default(),
            ended,
        })
    }

    pub fn phase(&self) -> ContainerState {
        let state = self.state.lock();
        match (&state.started, &state.exit) {
            (_, Some(_)) => ContainerState::Exited,
            (Some(_), None) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        }
    }

    /// The first process of a running container.
    pub fn running(&self) -> Result<Started, Error> {
        let state = self.state.lock();
        match (&state.started, &state.exit) {
            (Some(started), None) => Ok(started.clone()),
            _ => Err(Error::new(
                ErrorKind::FailedPrecondition,
                format!("container {:?} is not in running state", self.record.id),
            )),
        }
    }

    pub fn status(&self) -> ContainerStatus {
        let state = self.state.lock().clone();
        let (record, config) = (&self.record, &self.record.config);
        let started = state.started.as_ref();
        let exit = state.exit.as_ref();
        let user = started.map(|s| {
            let groups = s.user.groups.iter().map(|g| i64::from(*g)).collect();
            (i64::from(s.user.uid), i64::from(s.user.gid), groups)
        });
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox.clone(),
            metadata: config.metadata.clone(),
            state: self.phase(),
            created_at: record.created_at,
            started_at: started.map_or(0, |s| s.started_at),
            finished_at: exit.map_or(0, |e| e.finished_at),
            exit_code: exit.map_or(0, |e| e.code),
            image: match config.user_image.is_empty() {
                true => config.image.clone(),
                false => config.user_image.clone(),
            },
            image_ref: record.image_ref.clone(),
            reason: exit.map_or_else(String::new, reason),
            message: exit.map_or_else(String::new, |e| e.message.clone()),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: record
                .log
                .as_ref()
                .map_or_else(String::new, |p| p.display().to_string()),
            pid: match (started, exit) {
                (Some(started), None) => started.pid,
                _ => 0,
            },
            resources: state.resources,
            user,
            tty: config.tty,
            stdin: config.stdin,
        }
    }

    fn end(&self, exit: Exit) -> bool {
        let mut state = self.state.lock();
        if state.exit.is_some() {
            return false;
        }
        state.exit = Some(exit);
        drop(state);
        self.ended.send_replace(true);
        true
    }
}

/// As containerd names ends.
fn reason(exit: &Exit) -> String {
    match exit {
        Exit { reason, .. } if !reason.is_empty() => reason.clone(),
        Exit { oom_kills, .. } if *oom_kills > 0 => "OOMKilled".into(),
        Exit { code: 0, .. } => "Completed".into(),
        _ => "Error".into(),
    }
}

// === Core ===

impl Core {
    pub(crate) async fn make_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if sandbox.record.lock().phase != Phase::Ready {
            let text = format!("sandbox container {:?} is not running", sandbox.id);
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        let id = new_id();
        let made = self.blocking({
            let (sandbox, id) = (sandbox.clone(), id.clone());
            move |r| r.prepare_container(&sandbox, &id, config)
        });
        let container = match made.await {
            Ok(container) => container,
            Err(error) => {
                self.delete_files(&id).await?;
                return Err(error);
            }
        };
        let sandbox_id = container.record.sandbox.clone();
        self.containers.lock().insert(id.clone(), container);
        self.announce(ContainerEventKind::Created, &sandbox_id, &id);
        Ok(id)
    }

    fn resolve(&self, image: &str) -> Result<ResolvedImage, Error> {
        let found = self.images.resolve(image);
        found.ok_or_else(|| {
            Error::not_found(format!("failed to resolve image {image:?}: not found"))
        })
    }

    fn prepare_container(
        &self,
        sandbox: &Sandbox,
        id: &str,
        config: ContainerConfig,
    ) -> Result<Arc<Container>, Error> {
        let image = self.resolve(&config.image)?;
        let references = config.mounts.iter().filter_map(|m| m.image.as_deref());
        let image_mounts: Vec<_> = references
            .map(|r| self.resolve(r))
            .collect::<Result<_, _>>()?;
        let dir = self.disk.container(id);
        for name in ["upper", "work", "rootfs", "empty"] {
            let dir = dir.join(name);
            fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
        }
        for (at, image) in std::iter::once(&image).chain(&image_mounts).enumerate() {
            let leased = self.images.lease(&lease(id, at), image);
            leased.map_err(|e| Error::internal(format!("keep image {}: {e}", image.id)))?;
        }
        let of = sandbox.record.lock().clone();
        let cgroup = format!("{}/{id}", of.config.cgroup_parent);
        let run = self.disk.sandbox_run(&sandbox.id);
        let shm = match of.config.namespaces.ipc {
            cri::NamespaceMode::Node => "/dev/shm".into(),
            _ => self.disk.shm(&sandbox.id),
        };
        let facts = Facts {
            dir: &dir,
            config: &config,
            image: &image,
            image_mounts: &image_mounts,
            hostname: &of.hostname,
            sandbox_pid: of.config.namespaces.pid,
            files: SandboxFiles {
                resolv_conf: &run.join("resolv.conf"),
                hostname: &run.join("hostname"),
                shm: &shm,
            },
            cgroups: &self.cgroups,
            cgroup: &cgroup,
        };
        let refuse = |e: String| {
            let text = format!("failed to generate container {id:?} spec: {e}");
            Error::internal(text).because("CreateContainerError")
        };
        let plan = spec::plan(&facts).map_err(refuse)?;
        let of_image = image.config.config().as_ref();
        let of_image = of_image.and_then(|c| c.stop_signal().clone());
        let stop = spec::process::stop_signal(&config.stop_signal, &of_image.unwrap_or_default());
        let log = (!config.log_path.is_empty())
            .then(|| Path::new(&of.config.log_directory).join(&config.log_path));
        let state = State {
            resources: config.resources.clone(),
            ..State::default()
        };
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox: sandbox.id.clone(),
            created_at: crate::clock::now(),
            image_id: image.id.clone(),
            image_ref: image.digest_reference.clone(),
            log,
            cgroup,
            stop_signal: stop.map_err(refuse)?,
            process: plan.process.clone(),
            config,
        };
        disk::write(&dir.join("plan.json"), &plan)?;
        disk::write(&dir.join("container.json"), &record)?;
        Ok(Container::new(record, state))
    }

    pub(crate) async fn begin_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let _one = container.operation.lock().await;
        if container.phase() != ContainerState::Created {
            let text = format!(
                "container {id:?} is in {} state",
                match container.phase() {
                    ContainerState::Running => "CONTAINER_RUNNING",
                    _ => "CONTAINER_EXITED",
                }
            );
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        let sandbox = self.sandbox(&container.record.sandbox)?;
        if sandbox.record.lock().phase != Phase::Ready || !*sandbox.alive.borrow() {
            let text = format!("sandbox container {:?} is not running", sandbox.id);
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        match self.ask_start(&container).await {
            Ok(started) => {
                for warning in &started.warnings {
                    self.warn_once(warning);
                }
                container.state.lock().started = Some(started);
                // It may have ended already, before it was known as started.
                self.announce(ContainerEventKind::Started, &sandbox.id, id);
                self.container_ended(id);
                Ok(())
            }
            Err(error) => {
                let exit = Exit {
                    code: START_ERROR_CODE,
                    finished_at: crate::clock::now(),
                    reason: "StartError".into(),
                    message: error.message.clone(),
                    ..Exit::default()
                };
                disk::write(&self.disk.container(id).join("exit.json"), &exit)?;
                container.end(exit);
                self.announce(ContainerEventKind::Stopped, &sandbox.id, id);
                self.remove_cgroup(&container);
                Err(error)
            }
        }
    }

    async fn ask_start(self: &Arc<Self>, container: &Arc<Container>) -> Result<Started, Error> {
        let record = &container.record;
        let of = container.clone();
        let plan = self.blocking(move |r| r.prepare_start(&of)).await?;
        let directories = self.cgroups.directories(&record.cgroup);
        let sandbox = self.sandbox(&record.sandbox)?;
        let sandbox_pid = sandbox.record.lock().config.namespaces.pid;
        let request = Request::Start(StartRequest {
            container: record.id.clone(),
            state: self.disk.container(&record.id),
            log: record.log.clone(),
            terminal: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            pid: spec::pid_source(&record.config, sandbox_pid),
            cgroup: directories.into_iter().map(|(_, dir)| dir).collect(),
            oom: self.cgroups.oom_file(&record.cgroup),
        });
        let run = self.disk.sandbox_run(&record.sandbox);
        let call = Call::open(&run, &request, &[plan.as_fd()]).await?;
        let answer = tokio::time::timeout(START_PATIENCE, call.answer()).await;
        let Ok(answer) = answer else {
            let text = format!("{START_FAILED}the init stage does not get ready");
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        };
        match answer?.0 {
            Reply::Started(started) => Ok(started),
            Reply::Failed { message } => {
                let text = format!("{START_FAILED}{message}");
                Err(Error::internal(text).because("RunContainerError"))
            }
            other => Err(Error::internal(format!(
                "keeper answers start with {other:?}"
            ))),
        }
    }

    /// Group and limits; gives the plan's file.
    fn prepare_start(&self, container: &Container) -> Result<fs::File, Error> {
        let record = &container.record;
        let fail = |e: linux::cgroup::Error| {
            Error::internal(format!("{START_FAILED}error setting cgroup config: {e}"))
        };
        self.cgroups.create(&record.cgroup).map_err(fail)?;
        let limits = limits(&container.state.lock().resources, false);
        self.cgroups.apply(&record.cgroup, &limits).map_err(fail)?;
        if !record.config.security.privileged {
            let rules = spec::device_rules(&record.config).map_err(Error::internal)?;
            self.cgroups
                .allow_devices(&record.cgroup, &rules)
                .map_err(fail)?;
        }
        let path = self.disk.container(&record.id).join("plan.json");
        fs::File::open(&path).map_err(|e| failed("open", &path, e))
    }

    /// Takes note of how a container ended, if it did.
    pub(crate) fn container_ended(self: &Arc<Self>, id: &str) {
        let Ok(container) = self.container(id) else {
            return;
        };
        match disk::read::<Exit>(&self.disk.container(id).join("exit.json")) {
            Ok(Some(exit)) => {
                // Told before its start was: `begin_container` looks again.
                let started = container.state.lock().started.is_some();
                if started && container.end(exit) {
                    self.announce(ContainerEventKind::Stopped, &container.record.sandbox, id);
                    self.remove_cgroup(&container);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(container = id, %error, "read how a container ended"),
        }
    }

    /// The keeper is gone: a container has ended, whether somebody saw how or not.
    pub(crate) fn lose_container(self: &Arc<Self>, container: &Arc<Container>) {
        let id = &container.record.id;
        self.container_ended(id);
        if container.phase() != ContainerState::Running {
            return;
        }
        if let Err(error) = self.cgroups.kill(&container.record.cgroup) {
            tracing::warn!(container = %id, %error, "kill what a lost container left");
        }
        let exit = Exit {
            code: UNKNOWN_CODE,
            finished_at: crate::clock::now(),
            reason: "Unknown".into(),
            ..Exit::default()
        };
        if let Err(error) = disk::write(&self.disk.container(id).join("exit.json"), &exit) {
            tracing::error!(container = %id, %error, "write that a container is lost");
        }
        if container.end(exit) {
            self.announce(ContainerEventKind::Stopped, &container.record.sandbox, id);
        }
    }

    fn remove_cgroup(self: &Arc<Self>, container: &Container) {
        let (runtime, cgroup) = (self.clone(), container.record.cgroup.clone());
        tokio::task::spawn_blocking(move || {
            // What is still in it is killed and removed with the container.
            if let Err(error) = runtime.cgroups.remove(&cgroup) {
                tracing::debug!(%error, "an ended container's control group stays for now");
            }
        });
    }

    pub(crate) async fn end_container(
        self: &Arc<Self>,
        id: &str,
        timeout_seconds: i64,
    ) -> Result<(), Error> {
        // Upstream: unknown containers count as stopped.
        let Ok(container) = self.container(id) else {
            return Ok(());
        };
        if container.running().is_err() {
            return Ok(());
        }
        let run = self.disk.sandbox_run(&container.record.sandbox);
        let mut ended = container.ended.subscribe();
        let signal = |signal| Request::Signal {
            container: id.to_owned(),
            signal,
        };
        if let Ok(seconds) = u64::try_from(timeout_seconds)
            && seconds > 0
        {
            // It may have ended meanwhile, which is what is wanted.
            let _ended = client::ask(&run, &signal(container.record.stop_signal)).await;
            let wait = ended.wait_for(|ended| *ended);
            let patience = Duration::from_secs(seconds);
            if tokio::time::timeout(patience, wait).await.is_ok() {
                return Ok(());
            }
        }
        let _ended = client::ask(&run, &signal(9)).await;
        let cgroup = container.record.cgroup.clone();
        self.blocking(move |r| {
            let killed = r.cgroups.kill(&cgroup);
            killed.map_err(|e| Error::internal(e.to_string()))
        })
        .await?;
        let wait = ended.wait_for(|ended| *ended);
        if tokio::time::timeout(KILL_PATIENCE, wait).await.is_err() {
            let text = format!("an error occurs during waiting for container {id:?} to be killed");
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        }
        Ok(())
    }

    pub(crate) async fn delete_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let Ok(container) = self.container(id) else {
            return Ok(());
        };
        self.end_container(id, 0).await?;
        let _one = container.operation.lock().await;
        let cgroup = container.record.cgroup.clone();
        self.blocking(move |r| {
            let killed = r.cgroups.kill_and_wait(&cgroup, KILL_PATIENCE);
            killed.map_err(|e| Error::internal(e.to_string()))?;
            let removed = r.cgroups.remove(&cgroup);
            removed.map_err(|e| Error::internal(e.to_string()))
        })
        .await?;
        self.delete_files(id).await?;
        if self.containers.lock().remove(id).is_some() {
            self.announce(ContainerEventKind::Deleted, &container.record.sandbox, id);
        }
        Ok(())
    }

    /// Removes what a container, whole or half made, has on disk.
    pub(crate) async fn delete_files(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.blocking(move |r| r.delete_files_now(&id)).await
    }

    pub(crate) fn delete_files_now(&self, id: &str) -> Result<(), Error> {
        let record = disk::read::<ContainerRecord>(&self.disk.container(id).join("container.json"));
        // Half-made ones have no record: as many leases as an image can be mounted are looked for.
        let leases = match record {
            Ok(Some(record)) => {
                1 + record
                    .config
                    .mounts
                    .iter()
                    .filter(|m| m.image.is_some())
                    .count()
            }
            _ => 16,
        };
        if let Some(trash) = self.disk.discard(&self.disk.container(id))? {
            fs::remove_dir_all(&trash).map_err(|e| failed("remove", &trash, e))?;
        }
        for at in 0..leases {
            let released = self.images.release(&lease(id, at));
            released.map_err(|e| Error::internal(format!("release image: {e}")))?;
        }
        self.usage.forget(id);
        Ok(())
    }

    pub(crate) async fn change_resources(
        self: &Arc<Self>,
        id: &str,
        resources: LinuxContainerResources,
    ) -> Result<(), Error> {
        let container = self.container(id)?;
        let _one = container.operation.lock().await;
        if container.phase() == ContainerState::Exited {
            let text = format!("container {id:?} is in CONTAINER_EXITED state");
            return Err(Error::new(ErrorKind::FailedPrecondition, text));
        }
        let (of, new) = (container.clone(), resources.clone());
        self.blocking(move |r| {
            if of.phase() == ContainerState::Running {
                let applied = r.cgroups.apply(&of.record.cgroup, &limits(&new, true));
                applied.map_err(|e| Error::internal(format!("failed to update resources: {e}")))?;
            }
            let path = r.disk.container(&of.record.id).join("resources.json");
            disk::write(&path, &new)
        })
        .await?;
        container.state.lock().resources = resources;
        Ok(())
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        container.running()?;
        let request = Request::Reopen {
            container: id.to_owned(),
        };
        client::ask(&self.disk.sandbox_run(&container.record.sandbox), &request).await
    }
}

/// Names under which a container keeps its images.
fn lease(id: &str, at: usize) -> String {
    match at {
        0 => id.to_owned(),
        at => format!("{id}-{at}"),
    }
}

/// Limits as CRI gives them; `lift` also writes those that are not set any more.
fn limits(resources: &LinuxContainerResources, lift: bool) -> Limits {
    let limit = |n: i64| match n {
        0 => lift.then_some(-1),
        n => Some(n),
    };
    let text = |t: &String| (!t.is_empty()).then(|| t.clone());
    Limits {
        cpu_shares: u64::try_from(resources.cpu_shares).ok().filter(|s| *s > 0),
        cpu_quota: limit(resources.cpu_quota),
        cpu_period: u64::try_from(resources.cpu_period).ok().filter(|p| *p > 0),
        memory_max: limit(resources.memory_limit_bytes),
        pids_max: limit(resources.pids_limit),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        unified: resources.unified.clone(),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_upstream_s_reasons() {
        let exit = |code, oom_kills, reason: &str| {
            super::reason(&Exit {
                code,
                oom_kills,
                reason: reason.into(),
                ..Exit::default()
            })
        };
        assert_eq!(exit(0, 0, ""), "Completed");
        assert_eq!(exit(3, 0, ""), "Error");
        assert_eq!(exit(137, 1, ""), "OOMKilled");
        assert_eq!(exit(128, 0, "StartError"), "StartError");
    }
}
