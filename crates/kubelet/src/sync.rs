//! One sync of one pod: everything that must be there before containers, then what the plan says.
//! Upstream: kubelet.SyncPod, kuberuntime SyncPod.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use cri::{
    ContainerState, PodSandboxConfig, PodSandboxMetadata, PodSandboxState, PortMapping, Protocol,
};
use jiff::Timestamp;

use crate::actions::{self, Actions, KillReason};
use crate::containers::Start;
use crate::credentials::Keyring;
use crate::env::Objects;
use crate::images::{StartError, Wanted};
use crate::labels;
use crate::network_files::{self, ClusterDns};
use crate::observed::Observed;
use crate::pod::{self, ContainerKind, PodContainer};
use crate::resize;
use crate::resources;
use crate::restart::go_duration;
use crate::security;
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
        let backoff = self.carry_out(&p, &plan, seen, &volumes, &keyring).await?;
        let seen = self.observe().await?;
        self.prune(&p, &seen).await;
        self.prune_sandboxes(&seen).await;
        if self.publish() {
            return Ok(Synced::Done);
        }
        let waits = [backoff, deadline, self.next_due(now)];
        Ok(Synced::Wait(waits.into_iter().flatten().min()))
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
            // The status waits for the successors of what was ended.
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

    /// A container whose definition changed goes on until its new image is there. A failure is told when
    /// the new container is started.
    async fn pull_first(&self, p: &Pod, name: &str, keyring: &Keyring) {
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

    /// A failed probe may bring its own grace period.
    fn kill_grace(&self, p: &Pod, name: &str, reason: KillReason) -> i64 {
        let place = pod::find_container(p, name);
        let probe = place.as_ref().and_then(|c| match reason {
            KillReason::Liveness => c.container.liveness_probe.clone(),
            KillReason::Startup => c.container.startup_probe.clone(),
            KillReason::Other => None,
        });
        let own = probe.and_then(|pr| pr.termination_grace_period_seconds);
        own.unwrap_or_else(|| pod::grace_period(p))
    }

    async fn create_sandbox(&self, p: &Pod, attempt: u32) -> Result<String, SyncError> {
        let fail = |e: String| {
            self.pod_event(
                p,
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {e}"),
            )
        };
        let config = self.sandbox_config(p, attempt).map_err(&fail)?;
        let logs = std::path::Path::new(&config.log_directory);
        crate::paths::make(logs, 0o755).map_err(|e| fail(e.to_string()))?;
        let made = self.kubelet.runtime.run_pod_sandbox(config).await;
        made.map_err(|e| fail(e.to_string()))
    }

    fn sandbox_config(&self, p: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
        let k = &self.kubelet;
        check_isolation(k, p)?;
        let names = network_files::names(p, &k.config.cluster_domain);
        let hostname = network_files::kernel_hostname(p, &names, &k.config.node_name)?;
        let cluster = ClusterDns {
            servers: &k.config.cluster_dns,
            domain: &k.config.cluster_domain,
        };
        let (dns, warnings) = network_files::dns(p, cluster, &k.resolv_conf());
        for (reason, message) in warnings {
            k.event(p, EventType::Warning, reason, &message);
        }
        let logs = k.paths.logs(pod::namespace(p), pod::name(p), &self.uid);
        let mut own = p.metadata.labels.clone().unwrap_or_default();
        own.insert(labels::POD_NAME.into(), pod::name(p).into());
        own.insert(labels::POD_NAMESPACE.into(), pod::namespace(p).into());
        own.insert(labels::POD_UID.into(), self.uid.clone());
        let security = pod::spec(p).security_context.as_ref();
        let sysctls = security.and_then(|s| s.sysctls.as_ref());
        Ok(PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: pod::name(p).into(),
                uid: self.uid.clone(),
                namespace: pod::namespace(p).into(),
                attempt,
            },
            hostname: if pod::is_host_network(p) {
                String::new()
            } else {
                hostname
            },
            log_directory: logs.display().to_string(),
            dns: Some(dns),
            port_mappings: port_mappings(p),
            labels: own,
            annotations: p.metadata.annotations.clone().unwrap_or_default(),
            cgroup_parent: resources::cgroup_parent(p),
            pod_resources: Some(resources::pod_resources(p, k.config.pod_pids_limit)),
            namespaces: security::namespaces(p),
            sysctls: sysctls
                .into_iter()
                .flatten()
                .map(|s| (s.name.replace('/', "."), s.value.clone()))
                .collect(),
        })
    }

    /// Changes limits of running containers, the pod's own first where they grow.
    async fn resize(&self, p: &Pod, seen: &Observed, sandbox: &str) {
        let changes = resize::changes(p, seen, self.kubelet.facts.memory());
        if changes.is_empty() {
            self.state.lock().resize_error = None;
            return;
        }
        let done = self.change_limits(p, &changes, sandbox).await;
        let error = done.err();
        let known = std::mem::replace(&mut self.state.lock().resize_error, error.clone());
        match error {
            None => {
                let text = format!("Pod resize completed: {}", resize::summary(p, ""));
                self.kubelet
                    .event(p, EventType::Normal, "ResizeCompleted", &text);
            }
            Some(error) if known.as_ref() != Some(&error) => {
                let text = format!("Pod resize error: {}", resize::summary(p, &error));
                self.kubelet
                    .event(p, EventType::Warning, "ResizeError", &text);
            }
            Some(_) => {}
        }
    }

    async fn change_limits(
        &self,
        p: &Pod,
        changes: &[resize::Change],
        sandbox: &str,
    ) -> Result<(), String> {
        let runtime = &self.kubelet.runtime;
        let stats = runtime
            .list_container_stats()
            .await
            .map_err(|e| e.to_string())?;
        for c in changes
            .iter()
            .filter(|c| c.memory && c.resources.memory_limit_bytes > 0)
        {
            let used = stats.iter().find(|s| s.container_id == c.id);
            let used = used.map_or(0, |s| s.memory_usage_bytes);
            let limit = u64::try_from(c.resources.memory_limit_bytes).unwrap_or(0);
            if limit < used {
                return Err(format!(
                    "cannot decrease memory limits: attempting to set container {:?} memory limit ({limit}) below current usage ({used})",
                    c.name
                ));
            }
        }
        let shrinks = changes.iter().any(|c| c.shrinks);
        if !shrinks {
            self.change_pod_limits(p, sandbox).await?;
        }
        for c in changes {
            let changed = runtime
                .update_container_resources(&c.id, c.resources.clone())
                .await;
            changed.map_err(|e| e.to_string())?;
        }
        if shrinks {
            self.change_pod_limits(p, sandbox).await?;
        }
        Ok(())
    }

    async fn change_pod_limits(&self, p: &Pod, sandbox: &str) -> Result<(), String> {
        let limits = resources::pod_resources(p, self.kubelet.config.pod_pids_limit);
        let runtime = &self.kubelet.runtime;
        match runtime.update_pod_sandbox_resources(sandbox, limits).await {
            // As upstream, a runtime without this call is no failure.
            Err(e) if e.kind != cri::ErrorKind::Unimplemented => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    /// Images that are volumes come before the containers that mount them.
    async fn pull_image_volumes(&self, p: &Pod, start: &Start<'_>) -> Result<(), SyncError> {
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
                self.publish();
                return Err(SyncError::Pod(e.message));
            }
        }
        Ok(())
    }

    async fn start_containers(
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

    /// Sandboxes of earlier attempts go once they hold no containers.
    async fn prune_sandboxes(&self, seen: &Observed) {
        for s in seen.sandboxes.iter().skip(1) {
            let holds = seen.containers.iter().any(|c| c.sandbox_id == s.id);
            if holds || s.state == PodSandboxState::Ready {
                continue;
            }
            if let Err(error) = self.kubelet.runtime.remove_pod_sandbox(&s.id).await {
                tracing::warn!(%error, id = s.id, "old sandbox not removed");
            }
        }
    }

    /// Keeps one dead container per name, for `logs --previous`.
    async fn prune(&self, p: &Pod, seen: &Observed) {
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

/// Handlers of RuntimeClasses that mean this runtime.
const HANDLERS: &[&str] = &["", "runc", "k0s"];

/// Refuses isolation that this node cannot give.
fn check_isolation(k: &crate::kubelet::Kubelet, p: &Pod) -> Result<(), String> {
    let spec = pod::spec(p);
    if spec.host_users == Some(false) {
        return Err(
            "can't set `spec.hostUsers: false`, runtime does not support user namespaces".into(),
        );
    }
    let name = spec.runtime_class_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    let class = k.runtime_class(name).ok_or_else(|| {
        format!("failed to get RuntimeClass {name:?}: runtimeclass.node.k8s.io {name:?} not found")
    })?;
    if HANDLERS.contains(&class.handler.as_str()) {
        return Ok(());
    }
    Err(format!("no runtime for {:?} is configured", class.handler))
}

enum Deadline {
    None,
    In(Duration),
    Over,
}

fn port_mappings(p: &Pod) -> Vec<PortMapping> {
    let sidecars = pod::init_containers(p)
        .iter()
        .filter(|c| pod::is_sidecar(c));
    let ports = pod::containers(p).iter().chain(sidecars);
    ports
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
            Some(PortMapping {
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                container_port: number(port.container_port)?,
                host_port: number(port.host_port.unwrap_or(0))?,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}
