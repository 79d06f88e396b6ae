//! Small questions about pods and their containers.

use std::borrow::Cow;

use api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, Probe};
use jiff::Timestamp;

/// Which list of the spec a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerKind {
    Init,
    Main,
    Ephemeral,
}

/// A container of a pod with its place.
#[derive(Clone, Debug)]
pub struct PodContainer<'a> {
    pub kind: ContainerKind,
    pub container: Cow<'a, Container>,
    /// Of ephemeral containers: whose pid namespace is joined.
    pub target: Option<&'a str>,
}

// === PodContainer ===

impl PodContainer<'_> {
    /// The path that events name.
    pub fn field_path(&self) -> String {
        let list = match self.kind {
            ContainerKind::Init => "initContainers",
            ContainerKind::Main => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }

    /// Whether this is a sidecar: an init container that is always restarted.
    pub fn is_sidecar(&self) -> bool {
        self.kind == ContainerKind::Init && is_sidecar(&self.container)
    }
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

/// The spec; an empty one where there is none.
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

/// `metadata.name`.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `metadata.uid`.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// How upstream writes a pod in texts: `name_namespace(uid)`.
pub fn format(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// `status.phase`, `""` where there is none.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether a phase is never left.
pub fn is_terminal(phase: &str) -> bool {
    phase == "Succeeded" || phase == "Failed"
}

/// Init containers in order.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Main containers in order.
pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Ephemeral containers in order.
pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod)
        .ephemeral_containers
        .as_deref()
        .unwrap_or_default()
}

/// All containers: init, main, ephemeral.
pub fn all_containers(pod: &Pod) -> Vec<PodContainer<'_>> {
    let place = |kind| {
        move |c| PodContainer {
            kind,
            container: Cow::Borrowed(c),
            target: None,
        }
    };
    let mut all: Vec<PodContainer<'_>> = init_containers(pod)
        .iter()
        .map(place(ContainerKind::Init))
        .collect();
    all.extend(containers(pod).iter().map(place(ContainerKind::Main)));
    all.extend(ephemeral_containers(pod).iter().map(|e| PodContainer {
        kind: ContainerKind::Ephemeral,
        container: Cow::Owned(ephemeral_as_container(e)),
        target: e.target_container_name.as_deref().filter(|t| !t.is_empty()),
    }));
    all
}

/// One container by name.
pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<PodContainer<'a>> {
    all_containers(pod)
        .into_iter()
        .find(|c| c.container.name == name)
}

/// An init container with restartPolicy Always.
pub fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// Sidecars and main containers are those that probes look at.
pub fn probed_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = init_containers(pod).iter().filter(|c| is_sidecar(c));
    sidecars.chain(containers(pod))
}

/// Whether the pod lives in the node's network.
pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// Static, mirror, or of the highest priorities.
pub fn is_critical(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let has = |key: &str| annotations.is_some_and(|a| a.contains_key(key));
    has("kubernetes.io/config.mirror")
        || crate::static_pods::is_static(pod)
        || spec(pod).priority.unwrap_or(0) >= 2_000_000_000
}

/// The pod's own grace period.
pub fn grace_period(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30)
}

/// Second since the epoch, as all times in statuses are.
pub fn seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

/// A time of the runtime; `None` where it did not happen.
pub fn from_nanos(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

/// The three probes of a container with upstream's names.
pub fn probes(c: &Container) -> [(crate::probes::ProbeKind, Option<&Probe>); 3] {
    use crate::probes::ProbeKind;
    [
        (ProbeKind::Startup, c.startup_probe.as_ref()),
        (ProbeKind::Readiness, c.readiness_probe.as_ref()),
        (ProbeKind::Liveness, c.liveness_probe.as_ref()),
    ]
}

fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}
