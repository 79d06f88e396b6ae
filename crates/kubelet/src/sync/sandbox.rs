//! The sandbox of a pod: what the runtime must know of it. Upstream: kuberuntime_sandbox.go.

use api::core::v1::Pod;
use client::EventType;
use cri::{PodSandboxConfig, PodSandboxMetadata, PodSandboxState, PortMapping, Protocol};

use super::SyncError;
use crate::kubelet::Kubelet;
use crate::labels;
use crate::network_files::{self, ClusterDns};
use crate::observed::Observed;
use crate::pod;
use crate::resources;
use crate::security;
use crate::worker::PodWorker;

/// Handlers of RuntimeClasses that mean this runtime.
const HANDLERS: &[&str] = &["", "runc", "k0s"];

impl PodWorker {
    pub(super) async fn create_sandbox(&self, p: &Pod, attempt: u32) -> Result<String, SyncError> {
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

    /// Sandboxes of earlier attempts go once they hold no containers.
    pub(super) async fn prune_sandboxes(&self, seen: &Observed) {
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
}

/// Refuses isolation that this node cannot give.
fn check_isolation(k: &Kubelet, p: &Pod) -> Result<(), String> {
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
