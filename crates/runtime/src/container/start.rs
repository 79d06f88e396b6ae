//! Starting a container through its keeper, and changing what it may use.

use std::fs;
use std::os::fd::AsFd;
use std::sync::Arc;

use cri::{ContainerEventKind, ContainerState, Error, ErrorKind, LinuxContainerResources};
use linux::cgroup::Limits;

use super::Container;
use crate::client::{self, Call};
use crate::disk::{self, Phase, failed};
use crate::limits::START_PATIENCE;
use crate::protocol::{Exit, Reply, Request, StartRequest, Started};
use crate::{Core, spec};

/// What containerd's CRI plugin puts before the init stage's own words.
const START_FAILED: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: ";

/// Exit code of a container that could not be started, as upstream.
const START_ERROR_CODE: i32 = 128;
impl Core {
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
