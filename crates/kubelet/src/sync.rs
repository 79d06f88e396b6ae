//! One sync of one pod: everything that must be there before containers, then what the plan says.
//! Upstream: kubelet.SyncPod, kuberuntime SyncPod.

mod limits;
mod sandbox;
mod start;

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use jiff::Timestamp;

use crate::actions::{self, Actions, KillReason};
use crate::containers::Start;
use crate::credentials::Keyring;
use crate::env::Objects;
use crate::observed::Observed;
use crate::pod;
use crate::static_pods;
use crate::status::Verdict;
use crate::volumes::{self, Volumes};
use crate::worker::PodWorker;

/// How a sync ended.
pub(crate) enum Synced {
    /// The pod is done; it must be terminated.
    Done,
    /// Nothing more to do before this time, or before something happens.
    Wait(Option<Duration>),
}

/// Why a sync did not come to its end; events have told the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("the runtime failed: {0}")]
    Runtime(#[from] cri::Error),
    #[error("{0}")]
    Pod(String),
}

impl PodWorker {
    /// Brings the pod one step further.
    pub async fn sync_pod(self: &Arc<Self>) -> Result<Synced, SyncError> {
        let p = self.pod();
        let mirror = self.mirror(&p).await;
        let seen = self.observe().await?;
        let now = Timestamp::now();
        if self.publish() {
            return Ok(Synced::Done);
        }
        let deadline = match self.deadline(&p, now) {
            Deadline::Over => return Ok(Synced::Done),
            Deadline::In(left) => Some(left),
            Deadline::None => None,
        };
        self.check_network(&p).await?;
        let dir = self.kubelet.paths.pod(&self.uid);
        crate::paths::make(&dir, 0o750).map_err(|e| {
            let text = format!("error making pod data directories: {e}");
            self.pod_event(&p, "Failed", text)
        })?;
        let volumes = self.mount_volumes(&p, &seen).await?;
        let keyring = self.keyring(&p);
        self.start_probes(&p);
        let plan = actions::compute(&p, &seen, &self.results.lock().clone());
        if plan != Actions::default() {
            tracing::debug!(pod = pod::format(&p), ?plan, "sync");
        }
        let backoff = self.carry_out(&p, &plan, seen, &volumes, &keyring).await;
        self.show();
        let backoff = backoff?;
        let seen = self.observe().await?;
        self.prune(&p, &seen).await;
        self.prune_sandboxes(&seen).await;
        if self.publish() {
            return Ok(Synced::Done);
        }
        let waits = [backoff, deadline, self.next_due(now), mirror];
        Ok(Synced::Wait(waits.into_iter().flatten().min()))
    }

    /// Makes the mirror of a static pod; gives when to try again where that failed.
    async fn mirror(&self, p: &Pod) -> Option<Duration> {
        if !static_pods::is_static(p) {
            return None;
        }
        let error = static_pods::ensure_mirror(&self.kubelet, p).await.err()?;
        tracing::debug!(pod = pod::format(p), error, "mirror pod not made");
        Some(crate::limits::MIRROR_RETRY)
    }

    fn pod_event(&self, p: &Pod, reason: &str, text: String) -> SyncError {
        self.kubelet.event(p, EventType::Warning, reason, &text);
        SyncError::Pod(text)
    }

    async fn check_network(&self, p: &Pod) -> Result<(), SyncError> {
        if pod::is_host_network(p) {
            return Ok(());
        }
        let status = self.kubelet.runtime.status().await?;
        match status.network_not_ready {
            None => Ok(()),
            Some(why) => {
                Err(self.pod_event(p, "NetworkNotReady", format!("network is not ready: {why}")))
            }
        }
    }

    async fn mount_volumes(&self, p: &Pod, seen: &Observed) -> Result<Volumes, SyncError> {
        let facts = self.kubelet.downward_facts(p, seen.ips());
        let (ready, errors) = match volumes::setup(&self.kubelet, p, &facts).await {
            Ok(ready) => (ready, Vec::new()),
            Err(failed) => failed,
        };
        self.state.lock().volumes.clone_from(&ready);
        if errors.is_empty() {
            return Ok(ready);
        }
        for e in &errors {
            let text = if e.message.starts_with("error processing PVC") {
                format!(
                    "Unable to attach or mount volumes: unmounted volumes=[{v}], unattached volumes=[], failed to process volumes=[{v}]: {}",
                    e.message,
                    v = e.volume
                )
            } else {
                format!(
                    "MountVolume.SetUp failed for volume {:?} : {}",
                    e.volume, e.message
                )
            };
            self.kubelet
                .event(p, EventType::Warning, "FailedMount", &text);
        }
        let running = seen.any_running();
        if running {
            // What runs goes on with what it has; only new containers wait.
            return Ok(ready);
        }
        let names: Vec<&str> = errors.iter().map(|e| e.volume.as_str()).collect();
        Err(SyncError::Pod(format!(
            "volumes not mounted: {}",
            names.join(", ")
        )))
    }

    fn keyring(&self, p: &Pod) -> Keyring {
        let mut ring = Keyring::default();
        let mut missing = Vec::new();
        for r in pod::spec(p).image_pull_secrets.iter().flatten() {
            match self.kubelet.secret(pod::namespace(p), &r.name) {
                Some(secret) => {
                    if let Err(error) = ring.add(&secret) {
                        tracing::warn!(secret = r.name, %error, "image pull secret does not parse");
                    }
                }
                None => missing.push(r.name.clone()),
            }
        }
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            let warning = EventType::Warning;
            self.kubelet
                .event(p, warning, "FailedToRetrieveImagePullSecret", &text);
        }
        ring
    }

    /// Effects in upstream's order; gives how long the next restart has to wait.
    async fn carry_out(
        self: &Arc<Self>,
        p: &Pod,
        plan: &Actions,
        mut seen: Arc<Observed>,
        volumes: &Volumes,
        keyring: &Keyring,
    ) -> Result<Option<Duration>, SyncError> {
        if plan.kill_pod && !seen.sandboxes.is_empty() {
            self.end_old(p, plan, &seen).await?;
        }
        if plan.kill_pod && !plan.create_sandbox {
            return Ok(None);
        }
        if !plan.kill.is_empty() {
            // The status waits for the successors of what is ended.
            self.hold(&seen);
        }
        for kill in &plan.kill {
            let Some(status) = seen.containers.iter().find(|c| c.id == kill.id) else {
                continue;
            };
            if kill.reason == KillReason::Other {
                self.pull_first(p, &kill.name, keyring).await;
            }
            let grace = self.kill_grace(p, &kill.name, kill.reason);
            self.kill_container(p, status, &kill.message, grace, &[])
                .await?;
        }
        let sandbox = if plan.create_sandbox {
            self.create_sandbox(p, plan.attempt).await?
        } else {
            plan.sandbox_id.clone().unwrap_or_default()
        };
        if plan.create_sandbox {
            seen = self.observe().await?;
            self.publish();
        } else if !plan.kill.is_empty() {
            seen = self.observe().await?;
        }
        let host_ips = self.kubelet.host_ips();
        let pod_ips = if pod::is_host_network(p) {
            host_ips
        } else {
            seen.ips().to_vec()
        };
        let start = Start {
            kubelet: &self.kubelet,
            pod: p,
            seen: &seen,
            sandbox: &sandbox,
            pod_ips: &pod_ips,
            volumes,
            keyring,
            stopping: &self.stopping,
        };
        self.resize(p, &seen, &sandbox).await;
        self.pull_image_volumes(p, &start).await?;
        self.start_containers(p, plan, &start).await
    }

    async fn end_old(
        self: &Arc<Self>,
        p: &Pod,
        plan: &Actions,
        seen: &Observed,
    ) -> Result<(), SyncError> {
        if plan.create_sandbox {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.kubelet
                .event(p, EventType::Normal, "SandboxChanged", text);
        }
        let grace = pod::grace_period(p);
        self.kill_containers(p, seen, grace)
            .await
            .map_err(SyncError::Pod)?;
        for s in &seen.sandboxes {
            self.kubelet.runtime.stop_pod_sandbox(&s.id).await?;
        }
        if plan.create_sandbox {
            for c in pod::init_containers(p) {
                for old in seen.named(&c.name) {
                    self.kubelet.runtime.remove_container(&old.id).await?;
                }
            }
        }
        Ok(())
    }

    fn deadline(&self, p: &Pod, now: Timestamp) -> Deadline {
        let Some(seconds) = pod::spec(p).active_deadline_seconds else {
            return Deadline::None;
        };
        let start = self.state.lock().status.start_time.clone();
        let Some(start) = start else {
            return Deadline::None;
        };
        let gone = now.duration_since(start.0).as_secs_f64();
        let left = seconds as f64 - gone;
        if left > 0.0 {
            return Deadline::In(Duration::from_secs_f64(left));
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.kubelet
            .event(p, EventType::Normal, "DeadlineExceeded", message);
        let verdict = Verdict {
            reason: "DeadlineExceeded".into(),
            message: message.into(),
            disruption: false,
        };
        self.state.lock().verdict.get_or_insert(verdict);
        Deadline::Over
    }
}

enum Deadline {
    None,
    In(Duration),
    Over,
}
