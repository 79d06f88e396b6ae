//! The end of a pod: everything down, last status, clean-up, and the API object may go.
//! Upstream: SyncTerminatingPod, SyncTerminatedPod.

use std::sync::Arc;

use api::core::v1::Pod;

use super::PodWorker;
use crate::pod;
use crate::probes::ProbeKind;
use crate::volumes;

impl PodWorker {
    /// Ends all containers, then writes the last status.
    pub(super) async fn terminate(self: &Arc<Self>) -> Result<(), String> {
        let rejected = self.state.lock().rejected;
        if !rejected {
            self.observe().await.map_err(|e| e.to_string())?;
            self.publish();
            self.stop_probes(|kind| kind != ProbeKind::Readiness);
            self.kill_pod().await?;
            self.stop_probes(|_| true);
            let seen = self.observe().await.map_err(|e| e.to_string())?;
            if seen.any_running() {
                return Err(
                    "detected running containers after a successful KillPod, CRI violation".into(),
                );
            }
            self.state.lock().finished = true;
        }
        self.publish();
        Ok(())
    }

    pub(super) async fn tear_down(&self) -> Result<(), String> {
        let errors = volumes::teardown(&self.kubelet, &self.uid);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.join("; "))
        }
    }

    /// Lets the API object go once someone asked for it, then removes what the runtime has.
    pub(super) async fn delete(self: &Arc<Self>) -> Result<(), String> {
        self.status.flush().await;
        loop {
            let (p, gone) = {
                let state = self.state.lock();
                (state.pod.clone(), state.gone)
            };
            if gone {
                break;
            }
            if p.metadata.deletion_timestamp.is_some() {
                self.publish();
                self.status.flush().await;
                self.delete_object(&p).await?;
                break;
            }
            self.wake.notified().await;
        }
        self.remove_from_runtime()
            .await
            .map_err(|e| e.to_string())?;
        self.remove_logs();
        Ok(())
    }

    async fn delete_object(&self, p: &Pod) -> Result<(), String> {
        let done = self.kubelet.delete_now(p, Some(&self.uid)).await;
        done.map_err(|e| e.to_string())
    }

    async fn remove_from_runtime(&self) -> Result<(), cri::Error> {
        let seen = self.kubelet.observe(&self.uid).await?;
        for c in &seen.containers {
            self.kubelet.runtime.remove_container(&c.id).await?;
        }
        for s in &seen.sandboxes {
            self.kubelet.runtime.stop_pod_sandbox(&s.id).await?;
            self.kubelet.runtime.remove_pod_sandbox(&s.id).await?;
        }
        Ok(())
    }

    fn remove_logs(&self) {
        let p = self.pod();
        let paths = &self.kubelet.paths;
        let dir = paths.logs(pod::namespace(&p), pod::name(&p), &self.uid);
        crate::pods::remove_log_dir(paths, &dir);
    }
}
