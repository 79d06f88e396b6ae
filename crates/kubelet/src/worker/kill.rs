//! Ending containers: preStop, the turn of sidecars, the grace period. Upstream: kuberuntime killContainer,
//! termination_order.go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use cri::{ContainerState, ContainerStatus, PodSandboxState};
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PodWorker;
use crate::hooks;
use crate::limits;
use crate::observed::Observed;
use crate::pod;

impl PodWorker {
    /// The grace period of the pod's end. It only shrinks.
    pub fn grace(&self) -> i64 {
        let state = self.state.lock();
        let own = pod::grace_period(&state.pod);
        let of_api = state.pod.metadata.deletion_grace_period_seconds;
        let least = [of_api, state.grace].into_iter().flatten().min();
        least.unwrap_or(own).max(1)
    }

    /// Ends everything: containers in their order, then sandboxes. Begins anew with less time when the
    /// grace period shrinks.
    pub async fn kill_pod(self: &Arc<Self>) -> Result<(), String> {
        loop {
            let grace = self.grace();
            let shrunk = async {
                loop {
                    self.regrace.notified().await;
                    if self.grace() < grace {
                        return;
                    }
                }
            };
            tokio::select! {
                done = self.kill_all(grace) => return done,
                () = shrunk => {}
            }
        }
    }

    async fn kill_all(&self, grace: i64) -> Result<(), String> {
        let seen = self.observe().await.map_err(|e| e.to_string())?;
        let p = self.pod();
        self.kill_containers(&p, &seen, grace).await?;
        for s in &seen.sandboxes {
            if s.state == PodSandboxState::Ready || !s.netns_path.is_empty() {
                let stopped = self.kubelet.runtime.stop_pod_sandbox(&s.id).await;
                stopped.map_err(|e| self.kill_failed(&p, &e))?;
            }
        }
        Ok(())
    }

    fn kill_failed(&self, p: &Pod, e: &cri::Error) -> String {
        let text = format!("error killing pod: {e}");
        self.kubelet
            .event(p, EventType::Warning, "FailedKillPod", &text);
        text
    }

    /// Ends all containers of a pod; sidecars wait for those that they serve.
    pub async fn kill_containers(
        &self,
        p: &Pod,
        seen: &Observed,
        grace: i64,
    ) -> Result<(), String> {
        let alive: Vec<&ContainerStatus> = seen
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
            .collect();
        let ended: HashMap<&str, CancellationToken> = alive
            .iter()
            .map(|c| (c.metadata.name.as_str(), CancellationToken::new()))
            .collect();
        let all = alive.iter().map(|c| {
            let own = &ended[c.metadata.name.as_str()];
            let waits: Vec<&CancellationToken> = turn(p, &c.metadata.name)
                .into_iter()
                .filter_map(|n| ended.get(n))
                .collect();
            async move {
                let message = format!("Stopping container {}", c.metadata.name);
                let done = self.kill_container(p, c, &message, grace, &waits).await;
                own.cancel();
                done
            }
        });
        let results = join_all(all).await;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |e| Err(self.kill_failed(p, &e)))
    }

    /// Ends one container.
    pub async fn kill_container(
        &self,
        p: &Pod,
        status: &ContainerStatus,
        message: &str,
        grace: i64,
        waits: &[&CancellationToken],
    ) -> Result<(), cri::Error> {
        let began = Instant::now();
        let first = self.state.lock().stopped.insert(status.id.clone());
        let place = pod::find_container(p, &status.metadata.name);
        if first && let Some(place) = &place {
            let k = &self.kubelet;
            k.container_event(p, place, EventType::Normal, "Killing", message);
            self.pre_stop(p, place, status, grace).await;
        }
        let total = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let left = total.saturating_sub(began.elapsed());
        let turn = join_all(waits.iter().map(|w| w.cancelled()));
        // Without its turn in time the sidecar is ended all the same.
        let _ = tokio::time::timeout(left, turn).await;
        let left = total.saturating_sub(began.elapsed()).as_secs_f64().ceil() as i64;
        let left = left.max(limits::MIN_STOP_GRACE);
        self.kubelet.runtime.stop_container(&status.id, left).await
    }

    async fn pre_stop(
        &self,
        p: &Pod,
        place: &pod::PodContainer<'_>,
        status: &ContainerStatus,
        grace: i64,
    ) {
        let hook = place.container.lifecycle.as_ref();
        let Some(handler) = hook.and_then(|l| l.pre_stop.as_ref()) else {
            return;
        };
        if status.state != ContainerState::Running || grace <= 0 {
            return;
        }
        let ips = self.observed.borrow().ips().to_vec();
        let host = self.kubelet.host_ips();
        let ips = if pod::is_host_network(p) { host } else { ips };
        let ip = ips.first().map_or("", String::as_str);
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let run = hooks::run(&self.kubelet, p, place, &status.id, ip, handler);
        let why = match tokio::time::timeout(limit, run).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "the grace period is over".into(),
        };
        tracing::debug!(container = place.container.name, why, "preStop hook failed");
        let warning = EventType::Warning;
        self.kubelet
            .container_event(p, place, warning, "FailedPreStopHook", "PreStopHook failed");
    }
}

/// Whom a container waits for: sidecars for all main containers and all later sidecars.
fn turn<'a>(p: &'a Pod, name: &str) -> Vec<&'a str> {
    let init = pod::init_containers(p);
    let at = init
        .iter()
        .position(|c| c.name == name && pod::is_sidecar(c));
    let Some(at) = at else { return Vec::new() };
    let later = init[at + 1..].iter().filter(|c| pod::is_sidecar(c));
    later
        .chain(pod::containers(p))
        .map(|c| c.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sidecars_end_last_and_in_reverse_order() {
        let p: Pod = serde_json::from_value(json!({"spec":{
            "initContainers":[{"name":"s1","restartPolicy":"Always"},{"name":"i"},{"name":"s2","restartPolicy":"Always"}],
            "containers":[{"name":"m"}]}}))
        .unwrap();
        assert_eq!(turn(&p, "s1"), ["s2", "m"]);
        assert_eq!(turn(&p, "s2"), ["m"]);
        assert!(turn(&p, "m").is_empty() && turn(&p, "i").is_empty());
    }
}
