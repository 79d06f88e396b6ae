//! Starting the containers of a plan, with back-off; pruning dead ones. Upstream: kuberuntime SyncPod, doBackOff.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use cri::ContainerState;
use jiff::Timestamp;

use super::SyncError;
use crate::actions::{self, Actions, KillReason};
use crate::containers::Start;
use crate::credentials::Keyring;
use crate::images::{StartError, Wanted};
use crate::observed::Observed;
use crate::pod::{self, ContainerKind, PodContainer};
use crate::restart::go_duration;
use crate::worker::PodWorker;

impl PodWorker {
    /// A container whose definition changed goes on until its new image is there. A failure is told when
    /// the new container is started.
    pub(super) async fn pull_first(&self, p: &Pod, name: &str, keyring: &Keyring) {
        let Some(place) = pod::find_container(p, name) else {
            return;
        };
        let policy = place.container.image_pull_policy.as_deref();
        let wanted = Wanted {
            pod: p,
            about: self.kubelet.about(p, &place),
            image: place.container.image.as_deref().unwrap_or_default(),
            policy: policy.unwrap_or("IfNotPresent"),
            keyring,
        };
        let present = self.kubelet.images.is_present(wanted.image).await;
        if !present && let Err(e) = self.kubelet.images.ensure(&wanted).await {
            tracing::debug!(
                image = wanted.image,
                reason = e.reason,
                "new image not pulled yet"
            );
        }
    }

    /// Images that are volumes come before the containers that mount them.
    pub(super) async fn pull_image_volumes(
        &self,
        p: &Pod,
        start: &Start<'_>,
    ) -> Result<(), SyncError> {
        for v in pod::spec(p).volumes.iter().flatten() {
            let Some(source) = &v.image else { continue };
            let all = pod::all_containers(p);
            let user = all.iter().find(|c| {
                let mounts = c.container.volume_mounts.iter().flatten();
                mounts.into_iter().any(|m| m.name == v.name)
            });
            let Some(user) = user.filter(|c| start.seen.active(&c.container.name).is_none()) else {
                continue;
            };
            let wanted = Wanted {
                pod: p,
                about: self.kubelet.about(p, user),
                image: source.reference.as_deref().unwrap_or_default(),
                policy: source.pull_policy.as_deref().unwrap_or("IfNotPresent"),
                keyring: start.keyring,
            };
            if let Err(e) = self.kubelet.images.ensure(&wanted).await {
                let text = format!("Error: {}", e.reason);
                let warning = EventType::Warning;
                self.kubelet
                    .container_event(p, user, warning, "Failed", &text);
                self.note_start(&user.container.name, Err(e.clone()));
                self.show();
                self.publish();
                return Err(SyncError::Pod(e.message));
            }
        }
        Ok(())
    }

    pub(super) async fn start_containers(
        self: &Arc<Self>,
        p: &Pod,
        plan: &Actions,
        start: &Start<'_>,
    ) -> Result<Option<Duration>, SyncError> {
        let mut wait: Option<Duration> = None;
        let mut failed: Option<String> = None;
        let all = pod::all_containers(p);
        let names = plan
            .start_ephemeral
            .iter()
            .chain(&plan.start_init)
            .chain(&plan.start_main);
        for name in names {
            let Some(place) = all.iter().find(|c| c.container.name == *name) else {
                continue;
            };
            if self.stopping.is_cancelled() {
                return Ok(None);
            }
            if let Some(left) = self.in_backoff(p, place, start.seen) {
                wait = Some(wait.map_or(left, |w| w.min(left)));
                if place.kind == ContainerKind::Init && !place.is_sidecar() {
                    break;
                }
                continue;
            }
            let done = start.container(place).await;
            if self.stopping.is_cancelled() {
                return Ok(None);
            }
            let error = done.as_ref().err().map(|e| (e.reason, e.message.clone()));
            self.note_start(name, done);
            if let Some((reason, message)) = error {
                if !reason.contains("Pull") && reason != "PostStartHookError" {
                    failed.get_or_insert(message);
                }
                if place.kind == ContainerKind::Init && !place.is_sidecar() {
                    break;
                }
            }
        }
        match failed {
            Some(message) => {
                self.observe().await?;
                self.show();
                self.publish();
                Err(SyncError::Pod(message))
            }
            None => Ok(wait),
        }
    }

    /// Remembers why a container did not start, until it does.
    fn note_start(&self, name: &str, done: Result<(), StartError>) {
        let mut state = self.state.lock();
        match done {
            Ok(()) => {
                state.errors.remove(name);
            }
            Err(e) => {
                state
                    .errors
                    .insert(name.into(), (e.reason.into(), e.message));
            }
        }
    }

    /// How long a container that ended still has to wait; the first start after an end does not.
    fn in_backoff(&self, p: &Pod, place: &PodContainer<'_>, seen: &Observed) -> Option<Duration> {
        let c = &*place.container;
        let latest = seen.latest(&c.name)?;
        if latest.state != ContainerState::Exited {
            return None;
        }
        let since = pod::from_nanos(latest.finished_at)?;
        let key = format!("{}/{}", c.name, actions::container_hash(c));
        let now = Timestamp::now();
        let mut state = self.state.lock();
        let Some((left, whole)) = state.backoff.remaining(&key, since, now) else {
            state.backoff.next(key, since);
            return None;
        };
        let text = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(whole),
            c.name,
            pod::format(p)
        );
        state
            .errors
            .insert(c.name.clone(), ("CrashLoopBackOff".into(), text));
        drop(state);
        let event = format!(
            "Back-off restarting failed container {} in pod {}",
            c.name,
            pod::format(p)
        );
        self.kubelet
            .container_event(p, place, EventType::Warning, "BackOff", &event);
        Some(left)
    }

    /// A failed probe may bring its own grace period.
    pub(super) fn kill_grace(&self, p: &Pod, name: &str, reason: KillReason) -> i64 {
        let place = pod::find_container(p, name);
        let probe = place.as_ref().and_then(|c| match reason {
            KillReason::Liveness => c.container.liveness_probe.clone(),
            KillReason::Startup => c.container.startup_probe.clone(),
            KillReason::Other => None,
        });
        let own = probe.and_then(|pr| pr.termination_grace_period_seconds);
        own.unwrap_or_else(|| pod::grace_period(p))
    }

    /// Keeps one dead container per name, for `logs --previous`.
    pub(super) async fn prune(&self, p: &Pod, seen: &Observed) {
        for place in pod::all_containers(p) {
            let name = place.container.name.as_str();
            let dead: Vec<_> = seen
                .named(name)
                .filter(|c| c.state == ContainerState::Exited || c.state == ContainerState::Created)
                .collect();
            let running = seen.named(name).any(|c| c.state == ContainerState::Running);
            let keep = if running { 1 } else { 2 };
            for c in dead.iter().skip(keep) {
                if let Err(error) = self.kubelet.runtime.remove_container(&c.id).await {
                    tracing::warn!(%error, id = c.id, "dead container not removed");
                    continue;
                }
                let paths = &self.kubelet.paths;
                let link = paths.log_link(pod::namespace(p), pod::name(p), name, &c.id);
                for path in [std::path::PathBuf::from(&c.log_path), link] {
                    crate::pods::remove_file(&path);
                }
            }
        }
    }
}
