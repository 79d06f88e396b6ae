//! One task per probe of a container: when to probe, what a result means. Upstream: pkg/kubelet/prober/worker.go.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Container, Pod, Probe};
use client::EventType;
use cri::{ContainerState, ContainerStatus};
use jiff::Timestamp;
use tokio::time::{Instant, interval_at};

use super::{Counter, Outcome, ProbeKind, Target};
use crate::pod;
use crate::worker::PodWorker;

impl PodWorker {
    /// Starts the probes of a pod that do not run yet.
    pub fn start_probes(self: &Arc<Self>, p: &Pod) {
        let mut tasks = self.probes.lock();
        for c in pod::probed_containers(p) {
            for (kind, probe) in pod::probes(c) {
                let key = (c.name.clone(), kind);
                let Some(probe) = probe.filter(|_| !tasks.contains_key(&key)) else {
                    continue;
                };
                let task = tokio::spawn(follow(self.clone(), c.clone(), probe.clone(), kind));
                tasks.insert(key, task.abort_handle());
            }
        }
    }
}

/// Probes each container of the name, one after the other.
async fn follow(worker: Arc<PodWorker>, c: Container, probe: Probe, kind: ProbeKind) {
    let mut done_with = String::new();
    loop {
        let status = running(&worker, &c.name, &done_with).await;
        let started = kind == ProbeKind::Startup || started(&worker, &c, &status).await;
        if started {
            watch_one(&worker, &c, &probe, kind, &status).await;
        }
        done_with = status.id;
    }
}

/// The next running container of the name.
async fn running(worker: &PodWorker, name: &str, not: &str) -> ContainerStatus {
    let mut observed = worker.observed.subscribe();
    loop {
        let found = {
            let seen = observed.borrow_and_update();
            let latest = seen.latest(name);
            latest
                .filter(|s| s.state == ContainerState::Running && s.id != not)
                .cloned()
        };
        if let Some(found) = found {
            return found;
        }
        if observed.changed().await.is_err() {
            // The worker is gone, and with it this task.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until the container counts as started; `false` if it ended before.
async fn started(worker: &PodWorker, c: &Container, status: &ContainerStatus) -> bool {
    if c.startup_probe.is_none() {
        return true;
    }
    let mut observed = worker.observed.subscribe();
    loop {
        if worker.results.lock().get(&status.id, ProbeKind::Startup) == Some(true) {
            return true;
        }
        let alive = is_alive(&observed.borrow_and_update(), status);
        if !alive || observed.changed().await.is_err() {
            return false;
        }
    }
}

fn is_alive(seen: &crate::observed::Observed, status: &ContainerStatus) -> bool {
    seen.containers
        .iter()
        .any(|s| s.id == status.id && s.state == ContainerState::Running)
}

/// Probes one container until it ends or the probe has nothing more to say.
async fn watch_one(
    worker: &Arc<PodWorker>,
    c: &Container,
    probe: &Probe,
    kind: ProbeKind,
    status: &ContainerStatus,
) {
    let seconds = |n: Option<i32>, default: i32| {
        Duration::from_secs(u64::try_from(n.unwrap_or(default)).unwrap_or(0))
    };
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let delay = seconds(probe.initial_delay_seconds, 0);
    // Times in statuses are whole seconds: the delay counts from the second that is shown.
    let shown = pod::from_nanos(status.started_at).unwrap_or_else(Timestamp::now);
    let age = Timestamp::now().duration_since(shown);
    let left = delay.saturating_sub(Duration::try_from(age).unwrap_or_default());
    let mut ticks = interval_at(Instant::now() + left, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counter = Counter::default();
    loop {
        ticks.tick().await;
        if !is_alive(&worker.observed.borrow(), status) {
            return;
        }
        if kind == ProbeKind::Startup && worker.results.lock().get(&status.id, kind) == Some(true) {
            return;
        }
        let outcome = probe_once(worker, c, probe, &status.id).await;
        let Some(ok) = note(worker, c, kind, outcome).and_then(|ok| counter.count(ok, probe))
        else {
            continue;
        };
        if publish(worker, kind, &status.id, ok) {
            return;
        }
    }
}

async fn probe_once(worker: &PodWorker, c: &Container, probe: &Probe, id: &str) -> Outcome {
    let p = worker.pod();
    let ips = if pod::is_host_network(&p) {
        worker.kubelet.host_ips()
    } else {
        worker.observed.borrow().ips().to_vec()
    };
    let target = Target {
        pod: &p,
        container: c,
        container_id: id,
        pod_ip: ips.first().map_or("", String::as_str),
        runtime: worker.kubelet.runtime.as_ref(),
    };
    super::run(&target, probe).await
}

/// Tells the user; `None` where the probe could not be carried out.
fn note(worker: &PodWorker, c: &Container, kind: ProbeKind, outcome: Outcome) -> Option<bool> {
    let event = |reason: &str, text: String| {
        let p = worker.pod();
        if let Some(place) = pod::find_container(&p, &c.name) {
            let warning = EventType::Warning;
            worker
                .kubelet
                .container_event(&p, &place, warning, reason, &text);
        }
    };
    let name = kind.as_str();
    let result = match &outcome {
        Outcome::Success | Outcome::Warning(_) => "successful",
        Outcome::Failure(_) => "failed",
        Outcome::Error(_) => "unknown",
    };
    let key = (worker.uid.clone(), c.name.clone(), name, result);
    *worker.kubelet.probe_counts.lock().entry(key).or_default() += 1;
    match outcome {
        Outcome::Success => Some(true),
        Outcome::Warning(text) => {
            event("ProbeWarning", format!("{name} probe warning: {text}"));
            Some(true)
        }
        Outcome::Failure(text) => {
            event("Unhealthy", format!("{name} probe failed: {text}"));
            Some(false)
        }
        Outcome::Error(text) => {
            let text = format!("{name} probe errored and resulted in unknown state: {text}");
            event("Unhealthy", text);
            None
        }
    }
}

/// Publishes a result; whether the probe is done with this container.
fn publish(worker: &PodWorker, kind: ProbeKind, id: &str, ok: bool) -> bool {
    let news = worker.results.lock().set(id, kind, ok);
    if news {
        match kind {
            ProbeKind::Readiness => worker.refresh(),
            ProbeKind::Liveness if ok => {}
            ProbeKind::Liveness | ProbeKind::Startup => worker.wake(),
        }
        if kind == ProbeKind::Startup {
            // Those who wait for the start look again.
            worker.observed.send_modify(|_| {});
            worker.refresh();
        }
    }
    kind == ProbeKind::Startup || (kind == ProbeKind::Liveness && !ok)
}
