//! How a pod is read from its JSON.

use std::collections::BTreeMap;

use api::core::v1 as core;
use api::meta;
use api::selector::{LabelSelector, Operator, Requirement};
use jiff::Timestamp;
use serde::Deserialize;

use super::{AffinityTerm, Condition, HostPort, Pod, PodKey, Spread, Terms, Volume};
use crate::labels::{self, Labels, NodeSelector, NodeTerm};
use crate::resource::{Amounts, Needs};

mod requests;

#[derive(Deserialize)]
struct View {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    labels: Option<Labels>,
    generation: Option<i64>,
    deletion_timestamp: Option<String>,
    owner_references: Option<Vec<meta::OwnerReference>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scheduler_name: Option<Box<str>>,
    node_name: Option<Box<str>>,
    priority: Option<i32>,
    preemption_policy: Option<String>,
    scheduling_gates: Option<Vec<Gate>>,
    tolerations: Option<Vec<core::Toleration>>,
    node_selector: Option<BTreeMap<String, String>>,
    affinity: Option<core::Affinity>,
    topology_spread_constraints: Option<Vec<core::TopologySpreadConstraint>>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<Amounts>,
    resources: Option<Needs>,
    volumes: Option<Vec<core::Volume>>,
    resource_claims: Option<Vec<serde::de::IgnoredAny>>,
    host_network: Option<bool>,
    host_users: Option<bool>,
}

#[derive(Deserialize)]
struct Gate {
    name: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    name: String,
    image: Option<String>,
    resources: Option<Needs>,
    ports: Option<Vec<core::ContainerPort>>,
    restart_policy: Option<String>,
    restart_policy_rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
struct Rule {
    action: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<Box<str>>,
    nominated_node_name: Option<Box<str>>,
    start_time: Option<String>,
    conditions: Option<Vec<StatusCondition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    resources: Option<Needs>,
    allocated_resources: Option<Amounts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusCondition {
    #[serde(rename = "type")]
    type_: String,
    status: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    observed_generation: Option<i64>,
    last_transition_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    allocated_resources: Option<Amounts>,
    resources: Option<Needs>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Pod, serde_json::Error> {
    let view: View = serde_json::from_slice(bytes)?;
    Ok(pod(view))
}

fn pod(view: View) -> Pod {
    let (requests, non_zero) = requests::requests(&view);
    let View {
        metadata: m,
        spec,
        status,
    } = view;
    let mut pod = Pod {
        key: PodKey::new(&m.namespace, &m.name),
        uid: m.uid.into(),
        labels: m.labels.unwrap_or_default(),
        generation: m.generation.unwrap_or(0),
        deleting: m.deletion_timestamp.is_some(),
        controller: controller(m.owner_references),
        requests,
        non_zero,
        images: images(&spec),
        host_ports: host_ports(&spec),
        volumes: volumes(spec.volumes.as_deref(), &m.name),
        features: features(&spec),
        containers: count(&spec.containers) + count(&spec.init_containers),
        has_claims: spec.resource_claims.is_some_and(|c| !c.is_empty()),
        scheduler_name: spec
            .scheduler_name
            .unwrap_or_else(|| "default-scheduler".into()),
        node_name: spec.node_name.unwrap_or_default(),
        priority: spec.priority.unwrap_or(0),
        never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
        gates: spec
            .scheduling_gates
            .into_iter()
            .flatten()
            .map(|g| g.name)
            .collect(),
        tolerations: spec.tolerations.unwrap_or_default(),
        node_selector: node_selector(spec.node_selector),
        ..Pod::default()
    };
    set_affinity(&mut pod, spec.affinity);
    pod.spread = spec
        .topology_spread_constraints
        .into_iter()
        .flatten()
        .map(|c| spread(&c, &pod.labels))
        .collect();
    set_status(&mut pod, status);
    pod
}

fn set_status(pod: &mut Pod, status: Status) {
    pod.phase = status.phase.unwrap_or_default();
    pod.nominated_node = status.nominated_node_name.unwrap_or_default();
    pod.start = status.start_time.and_then(|t| t.parse::<Timestamp>().ok());
    for c in status.conditions.into_iter().flatten() {
        let is = |reason: &str| c.reason.as_deref() == Some(reason);
        match c.type_.as_str() {
            "PodScheduled" => {
                pod.scheduled = Some(Condition {
                    status: c.status.unwrap_or_default(),
                    reason: c.reason.unwrap_or_default(),
                    message: c.message.unwrap_or_default(),
                    observed_generation: c.observed_generation.unwrap_or(0),
                    last_transition: c.last_transition_time,
                });
            }
            "DisruptionTarget" if is("PreemptionByScheduler") => {
                pod.preempted = c.status.as_deref() == Some("True");
            }
            _ => {}
        }
    }
}

fn count<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

fn controller(owners: Option<Vec<meta::OwnerReference>>) -> Option<(Box<str>, Box<str>)> {
    let mut owners = owners.into_iter().flatten();
    let owner = owners.find(|o| o.controller == Some(true))?;
    Some((owner.kind.into(), owner.name.into()))
}

fn node_selector(wanted: Option<BTreeMap<String, String>>) -> LabelSelector {
    let requirements = wanted
        .into_iter()
        .flatten()
        .map(|(key, value)| Requirement {
            key,
            operator: Operator::In(vec![value]),
        });
    LabelSelector {
        requirements: requirements.collect(),
    }
}

fn set_affinity(pod: &mut Pod, affinity: Option<core::Affinity>) {
    let Some(affinity) = affinity else { return };
    if let Some(node) = affinity.node_affinity {
        pod.required_nodes = node
            .required_during_scheduling_ignored_during_execution
            .map(|s| NodeSelector::new(&s.node_selector_terms));
        let preferred = node.preferred_during_scheduling_ignored_during_execution;
        pod.preferred_nodes = preferred
            .into_iter()
            .flatten()
            .filter(|t| t.weight != 0)
            .map(|t| (i64::from(t.weight), NodeTerm::new(&t.preference)))
            .filter(|(_, t)| !t.is_empty())
            .collect();
    }
    let namespace = pod.key.namespace.clone();
    if let Some(a) = affinity.pod_affinity {
        pod.affinity = terms(
            a.required_during_scheduling_ignored_during_execution,
            a.preferred_during_scheduling_ignored_during_execution,
            &namespace,
        );
    }
    if let Some(a) = affinity.pod_anti_affinity {
        pod.anti_affinity = terms(
            a.required_during_scheduling_ignored_during_execution,
            a.preferred_during_scheduling_ignored_during_execution,
            &namespace,
        );
    }
}

fn terms(
    required: Option<Vec<core::PodAffinityTerm>>,
    preferred: Option<Vec<core::WeightedPodAffinityTerm>>,
    namespace: &str,
) -> Terms {
    let one = |t: &core::PodAffinityTerm| AffinityTerm::new(t, namespace);
    Terms {
        required: required.iter().flatten().map(one).collect(),
        preferred: preferred
            .iter()
            .flatten()
            .filter(|w| w.weight != 0)
            .map(|w| (i64::from(w.weight), one(&w.pod_affinity_term)))
            .collect(),
    }
}

/// Compiles a constraint; the pod's values of `matchLabelKeys` become part of the selector.
fn spread(c: &core::TopologySpreadConstraint, labels: &Labels) -> Spread {
    let mut selector = c.label_selector.as_ref().and_then(labels::selector);
    if let Some(s) = &mut selector {
        for key in c.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                let wanted = Requirement {
                    key: key.clone(),
                    operator: Operator::In(vec![value.to_string()]),
                };
                if !s.requirements.contains(&wanted) {
                    s.requirements.push(wanted);
                }
            }
        }
    }
    Spread {
        max_skew: i64::from(c.max_skew),
        min_domains: i64::from(c.min_domains.unwrap_or(1)),
        topology_key: c.topology_key.as_str().into(),
        hard: c.when_unsatisfiable == "DoNotSchedule",
        selector,
        honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn host_ports(spec: &Spec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().flatten().chain(sidecars);
    all.flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|p| *p > 0)?;
            let or = |text: &Option<String>, default: &str| -> Box<str> {
                text.as_deref()
                    .filter(|t| !t.is_empty())
                    .unwrap_or(default)
                    .into()
            };
            Some(HostPort {
                ip: or(&p.host_ip, "0.0.0.0"),
                protocol: or(&p.protocol, "TCP"),
                port,
            })
        })
        .collect()
}

fn images(spec: &Spec) -> Vec<Box<str>> {
    let containers = spec.init_containers.iter().flatten();
    let containers = containers.chain(spec.containers.iter().flatten());
    let named = containers.filter_map(|c| c.image.as_deref());
    let volumes = spec.volumes.iter().flatten();
    let volumes = volumes.filter_map(|v| v.image.as_ref()?.reference.as_deref());
    named.chain(volumes).map(normalized_image).collect()
}

/// An image name with a tag: nodes list them that way.
fn normalized_image(name: &str) -> Box<str> {
    let last = name.rfind('/').map_or(name, |at| &name[at..]);
    if last.contains(':') {
        name.into()
    } else {
        format!("{name}:latest").into()
    }
}

fn volumes(all: Option<&[core::Volume]>, pod: &str) -> Vec<Volume> {
    let disk = |id: String, read_only: Option<bool>, shareable: bool| {
        Some(Volume::Disk {
            id: id.into(),
            read_only: read_only.unwrap_or(false),
            shareable,
        })
    };
    let one = |v: &core::Volume| {
        if let Some(c) = &v.persistent_volume_claim {
            return Some(Volume::Claim(c.claim_name.as_str().into()));
        }
        if v.ephemeral.is_some() {
            let claim = format!("{pod}-{}", v.name).into();
            return Some(Volume::Ephemeral { claim });
        }
        if let Some(d) = &v.gce_persistent_disk {
            return disk(format!("gce {}", d.pd_name), d.read_only, true);
        }
        if let Some(d) = &v.aws_elastic_block_store {
            return disk(format!("aws {}", d.volume_id), d.read_only, false);
        }
        if let Some(d) = &v.iscsi {
            return disk(format!("iscsi {}", d.iqn), d.read_only, true);
        }
        let d = v.rbd.as_ref()?;
        let pool = d.pool.as_deref().unwrap_or("rbd");
        let id = format!("rbd {} {pool} {}", d.monitors.join(","), d.image);
        disk(id, d.read_only, true)
    };
    all.into_iter().flatten().filter_map(one).collect()
}

fn features(spec: &Spec) -> Vec<&'static str> {
    let containers = spec.containers.iter().flatten();
    let mut rules = containers
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|c| c.restart_policy_rules.iter().flatten());
    let mut out = Vec::new();
    if rules.any(|r| r.action.as_deref() == Some("RestartAllContainers")) {
        out.push("RestartAllContainersOnContainerExits");
    }
    if spec.host_network == Some(true) && spec.host_users == Some(false) {
        out.push("UserNamespacesHostNetworkSupport");
    }
    out
}
