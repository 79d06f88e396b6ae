//! Ends of containers: seen, asked for, or lost; and removal.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerEventKind, ContainerState, Error, ErrorKind};

use super::{Container, lease};
use crate::disk::{self, ContainerRecord, failed};
use crate::limits::KILL_PATIENCE;
use crate::protocol::{Exit, Request};
use crate::{Core, client};

/// Exit code of a container whose end nobody saw, as upstream.
const UNKNOWN_CODE: i32 = 255;

impl Core {
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

    pub(super) fn remove_cgroup(self: &Arc<Self>, container: &Container) {
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
}
