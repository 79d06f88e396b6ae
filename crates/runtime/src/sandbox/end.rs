//! Watching a sandbox's keeper, stopping and removing sandboxes.

use std::fs;
use std::sync::Arc;

use cri::{ContainerEventKind, Error};
use rustix::process::{Pid, PidfdFlags};

use super::Sandbox;
use crate::Core;
use crate::client::{self, Call};
use crate::disk::{self, Phase, failed};
use crate::limits::{KEEPER_PATIENCE, KILL_PATIENCE};
use crate::protocol::{Reply, Request};

impl Core {
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
            reap(&sandbox);
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
        let (of, id, cgroup) = (sandbox.clone(), sandbox.id.clone(), sandbox.cgroup());
        self.blocking(move |r| {
            reap(&of);
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

/// Waits for a keeper of ours that has ended or must.
fn reap(sandbox: &Sandbox) {
    let Some(mut child) = sandbox.child.lock().take() else {
        return;
    };
    // Both fail only where somebody else (an init that reaps everything) was faster.
    let ended = child.kill().and_then(|()| child.wait());
    if let Err(error) = ended {
        tracing::debug!(sandbox = %sandbox.id, %error, "reap a keeper");
    }
}
