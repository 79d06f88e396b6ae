//! The Node object as it should be. Mostly pure.

use std::collections::BTreeMap;

use api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus,
};
use api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use api::meta::{ObjectMeta, Time};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::facts::architecture;
use crate::kubelet::Kubelet;
use crate::limits;
use crate::pod;
use crate::resources::Amounts;

const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// The node as it is registered.
pub async fn new(kubelet: &Kubelet, now: Timestamp) -> Node {
    let config = &kubelet.config;
    let mut labels = config.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        labels.insert(key.into(), value.into());
    }
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(ATTACH.into(), "true".into())])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status(kubelet, now).await),
    }
}

/// What an existing node lacks: default labels and the attach annotation.
pub fn reconcile(found: &Node, wanted: &Node) -> Option<Value> {
    let missing = |have: Option<&BTreeMap<String, String>>,
                   want: Option<&BTreeMap<String, String>>| {
        let differs = |(k, v): &(&String, &String)| have.and_then(|h| h.get(*k)) != Some(*v);
        let list = want.into_iter().flatten().filter(differs);
        list.map(|(k, v)| (k.clone(), json!(v)))
            .collect::<Map<_, _>>()
    };
    let labels = missing(
        found.metadata.labels.as_ref(),
        wanted.metadata.labels.as_ref(),
    );
    let notes = missing(
        found.metadata.annotations.as_ref(),
        wanted.metadata.annotations.as_ref(),
    );
    if labels.is_empty() && notes.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"labels": labels, "annotations": notes}}))
}

/// The status as it is now.
pub async fn status(kubelet: &Kubelet, now: Timestamp) -> NodeStatus {
    let config = &kubelet.config;
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.into(),
        address,
    };
    let mut addresses: Vec<NodeAddress> = kubelet
        .host_ips()
        .into_iter()
        .map(|ip| address("InternalIP", ip))
        .collect();
    addresses.push(address("Hostname", config.node_name.clone()));
    let pressure = kubelet.node_status.lock().active();
    let conditions = conditions(&pressure, not_ready(kubelet).await, now);
    let known = kubelet.node();
    let known = known.as_ref().and_then(|n| n.status.as_ref());
    let port = config.port.map(i32::from);
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(texts(&kubelet.facts.capacity)),
        allocatable: Some(texts(&kubelet.facts.allocatable)),
        conditions: Some(keep_times(conditions, known)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: port.map(|port| DaemonEndpoint { port }),
        }),
        images: Some(images(kubelet).await),
        node_info: Some(kubelet.facts.info.clone()),
        runtime_handlers: Some(vec![NodeRuntimeHandler {
            name: Some(String::new()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(true),
                user_namespaces: Some(false),
            }),
        }]),
        ..NodeStatus::default()
    }
}

fn texts(amounts: &Amounts) -> BTreeMap<String, Text> {
    let all = amounts.iter();
    all.map(|(k, q)| (k.clone(), Text(q.to_string()))).collect()
}

async fn images(kubelet: &Kubelet) -> Vec<ContainerImage> {
    let mut list = match kubelet.images.store().list_images().await {
        Ok(list) => list,
        Err(error) => {
            tracing::warn!(%error, "images not listed");
            return Vec::new();
        }
    };
    list.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.id.cmp(&b.id))
    });
    list.truncate(limits::NODE_STATUS_IMAGES);
    list.into_iter()
        .map(|i| ContainerImage {
            names: Some(
                i.repo_digests
                    .into_iter()
                    .chain(i.repo_tags)
                    .take(limits::NODE_STATUS_IMAGE_NAMES)
                    .collect(),
            ),
            size_bytes: i64::try_from(i.size_bytes).ok(),
        })
        .collect()
}

/// Why the node cannot run pods, `None` when it can.
async fn not_ready(kubelet: &Kubelet) -> Option<String> {
    let status = match kubelet.runtime.status().await {
        Ok(status) => status,
        Err(_) => return Some("container runtime is down".into()),
    };
    let mut errors = Vec::new();
    if !status.runtime_ready {
        errors.push(
            "container runtime not ready: RuntimeReady=false reason:RuntimeNotReady message:"
                .to_string(),
        );
    }
    if let Some(why) = status.network_not_ready {
        errors.push(format!(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: {why}"
        ));
    }
    match errors.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

fn conditions(pressure: &[&str], not_ready: Option<String>, now: Timestamp) -> Vec<NodeCondition> {
    let time = Some(Time(pod::seconds(now)));
    let one = |kind: &str, on: bool, reason: &str, message: &str| NodeCondition {
        type_: kind.into(),
        status: if on { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: time.clone(),
        last_transition_time: time.clone(),
    };
    let pressed = |kind: &str, bad: [&str; 2], good: [&str; 2]| {
        let on = pressure.contains(&kind);
        let [reason, message] = if on { bad } else { good };
        one(kind, on, reason, message)
    };
    vec![
        pressed(
            "MemoryPressure",
            [
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ],
            [
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ],
        ),
        pressed(
            "DiskPressure",
            ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ),
        pressed(
            "PIDPressure",
            [
                "KubeletHasInsufficientPID",
                "kubelet has insufficient PID available",
            ],
            [
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ],
        ),
        match not_ready {
            None => one(
                "Ready",
                true,
                "KubeletReady",
                "kubelet is posting ready status",
            ),
            Some(why) => one("Ready", false, "KubeletNotReady", &why),
        },
    ]
}

/// The time of a change stays while the status does.
fn keep_times(mut list: Vec<NodeCondition>, known: Option<&NodeStatus>) -> Vec<NodeCondition> {
    for c in &mut list {
        let old = known.and_then(|s| s.conditions.as_ref());
        let old = old
            .into_iter()
            .flatten()
            .find(|o| o.type_ == c.type_ && o.status == c.status);
        if let Some(old) = old {
            c.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    list
}

/// Whether the node can run pods.
pub fn is_ready(status: &NodeStatus) -> bool {
    let list = status.conditions.iter().flatten();
    list.into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether nothing but times differs.
pub fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |s: &NodeStatus| {
        let mut s = s.clone();
        for c in s.conditions.iter_mut().flatten() {
            c.last_heartbeat_time = None;
            c.last_transition_time = None;
        }
        s
    };
    timeless(a) == timeless(b)
}

/// A strategic merge patch to the new status. Extended resources and foreign conditions stay.
pub fn patch(new: &NodeStatus) -> Value {
    let mut value = serde_json::to_value(new).unwrap_or_default();
    if let Some(list) = value["addresses"].as_array_mut() {
        // Two addresses of one type would merge into one.
        list.push(json!({"$patch": "replace"}));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_times_and_heartbeats_are_no_change() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let status = |list| NodeStatus {
            conditions: Some(list),
            ..NodeStatus::default()
        };
        let old = status(conditions(&[], None, at(1)));
        let new = status(keep_times(
            conditions(&["DiskPressure"], None, at(9)),
            Some(&old),
        ));
        let time = |kind: &str| {
            let list = new.conditions.as_ref().unwrap();
            let c = list.iter().find(|c| c.type_ == kind).unwrap();
            c.last_transition_time.clone().unwrap().0.as_second()
        };
        assert_eq!((time("Ready"), time("DiskPressure")), (1, 9));
        assert!(!same(&old, &new));
        assert!(same(&old, &status(conditions(&[], None, at(50)))));
    }
}
