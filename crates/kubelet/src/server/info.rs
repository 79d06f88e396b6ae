//! What the kubelet knows of its pods and itself.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};
use crate::kubelet::Kubelet;
use crate::pod;

fn list(items: Vec<Value>) -> Response<Body> {
    body::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// All pods of the node with the status as the kubelet sees it.
pub fn pods(kubelet: &Kubelet) -> Response<Body> {
    let workers = kubelet.workers.read();
    let items = workers.values().filter_map(|w| {
        let state = w.state.lock();
        let mut p = state.pod.as_ref().clone();
        p.status = Some(state.status.clone());
        serde_json::to_value(p).ok()
    });
    list(items.collect())
}

/// Pods as the runtime has them.
pub async fn running_pods(kubelet: &Kubelet) -> Response<Body> {
    let (sandboxes, containers) = match tokio::try_join!(
        kubelet.runtime.list_pod_sandboxes(),
        kubelet.runtime.list_containers()
    ) {
        Ok(both) => both,
        Err(e) => return body::text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    };
    let items = sandboxes.iter().filter_map(|s| {
        let own = containers.iter().filter(|c| {
            c.sandbox_id == s.id && c.state == cri::ContainerState::Running
        });
        let own: Vec<Value> = own
            .map(|c| json!({"name": c.metadata.name, "image": c.image_ref, "resources": {}}))
            .collect();
        (!own.is_empty()).then(|| {
            json!({
                "metadata": {"name": s.metadata.name, "namespace": s.metadata.namespace, "uid": s.metadata.uid},
                "spec": {"containers": own},
                "status": {},
            })
        })
    });
    list(items.collect())
}

/// The settings in effect, under upstream's names.
pub fn configz(kubelet: &Kubelet) -> Response<Body> {
    let c = &kubelet.config;
    let dns: Vec<String> = c.cluster_dns.iter().map(ToString::to_string).collect();
    body::json(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": c.port.is_some(),
        "podLogsDir": c.pod_log_dir,
        "syncFrequency": "1m0s",
        "port": c.port,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": false}},
        "clusterDomain": c.cluster_domain,
        "clusterDNS": dns,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": crate::limits::LEASE_SECONDS,
        "imageGCHighThresholdPercent": c.image_gc_high,
        "imageGCLowThresholdPercent": c.image_gc_low,
        "cgroupsPerQOS": true,
        "cgroupDriver": "cgroupfs",
        "maxPods": c.max_pods,
        "podPidsLimit": if c.pod_pids_limit > 0 { c.pod_pids_limit } else { -1 },
        "resolvConf": c.resolv_conf,
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": "100ms",
        "maxParallelImagePulls": crate::limits::PARALLEL_PULLS,
        "serializeImagePulls": false,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": crate::limits::LOG_FILES,
        "crashLoopBackOff": {"maxContainerRestartPeriod": "5m0s"},
        "failCgroupV1": false,
    }}))
}

/// A pod of this node by name.
pub fn find_worker(
    kubelet: &Kubelet,
    namespace: &str,
    name: &str,
) -> Option<std::sync::Arc<crate::worker::PodWorker>> {
    let workers = kubelet.workers.read();
    let own = workers.values().filter(|w| {
        let p = w.pod();
        pod::name(&p) == name && pod::namespace(&p) == namespace
    });
    // Of two with one name, the one that is not finished.
    own.max_by_key(|w| w.is_active()).cloned()
}
