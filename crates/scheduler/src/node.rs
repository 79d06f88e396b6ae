//! A node as the scheduler sees it, and what its pods take of it. Upstream: framework.NodeInfo.

use std::sync::Arc;

use api::core::v1::Taint;
use client::Entry;
use serde::Deserialize;

use crate::labels::Labels;
use crate::pod::{HostPort, Pod};
use crate::resource::{Amounts, Resource};

/// A node object. Never changes: a change in the API makes a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub name: Arc<str>,
    pub labels: Labels,
    pub annotations: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resource,
    /// Images the node has, by each of their names, with their size in bytes.
    pub images: Vec<(Box<str>, i64)>,
    pub features: Vec<Box<str>>,
    /// Type and status of the node's conditions.
    pub conditions: Vec<(Box<str>, Box<str>)>,
}

/// A node with its pods, and sums over them.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<Pod>>,
    /// Of these: pods with any affinity or anti-affinity, and with required anti-affinity.
    pub with_affinity: Vec<Arc<Pod>>,
    pub with_required_anti_affinity: Vec<Arc<Pod>>,
    pub requested: Resource,
    /// CPU (thousandths) and memory with scoring's assumptions.
    pub non_zero: (i64, i64),
    pub ports: Vec<HostPort>,
    /// Grows at each change.
    pub generation: u64,
}

#[derive(Deserialize)]
struct View {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    labels: Option<Labels>,
    annotations: Option<Labels>,
}

#[derive(Default, Deserialize)]
struct Spec {
    unschedulable: Option<bool>,
    taints: Option<Vec<Taint>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    allocatable: Option<Amounts>,
    images: Option<Vec<Image>>,
    declared_features: Option<Vec<Box<str>>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    names: Option<Vec<Box<str>>>,
    size_bytes: Option<i64>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: Box<str>,
    status: Option<Box<str>>,
}

// === Node ===

impl Node {
    /// The node of a stored object.
    pub fn parse(entry: &Entry) -> Result<Self, serde_json::Error> {
        Self::from_slice(&entry.bytes)
    }

    /// The node of JSON bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let view: View = serde_json::from_slice(bytes)?;
        let images = view.status.images.into_iter().flatten();
        let images = images.flat_map(|i| {
            let size = i.size_bytes.unwrap_or(0);
            i.names.into_iter().flatten().map(move |n| (n, size))
        });
        let conditions = view.status.conditions.into_iter().flatten();
        Ok(Self {
            name: view.metadata.name.into(),
            labels: view.metadata.labels.unwrap_or_default(),
            annotations: view.metadata.annotations.unwrap_or_default(),
            taints: view.spec.taints.unwrap_or_default(),
            unschedulable: view.spec.unschedulable.unwrap_or(false),
            allocatable: view
                .status
                .allocatable
                .as_ref()
                .map(Resource::of)
                .unwrap_or_default(),
            images: images.collect(),
            features: view.status.declared_features.unwrap_or_default(),
            conditions: conditions
                .map(|c| (c.type_, c.status.unwrap_or_default()))
                .collect(),
        })
    }

    /// Region and zone, as nodes are spread over them when candidates are listed.
    pub fn zone(&self) -> String {
        let label = |new: &str, old: &str| {
            let value = self.labels.get(new).or_else(|| self.labels.get(old));
            value.unwrap_or("").to_string()
        };
        let region = label(
            "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/region",
        );
        let zone = label(
            "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/zone",
        );
        if region.is_empty() && zone.is_empty() {
            return String::new();
        }
        format!("{region}:\0:{zone}")
    }
}

// === NodeInfo ===

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Adds a pod to the sums.
    pub fn add_pod(&mut self, pod: &Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.non_zero.0 += pod.non_zero.0;
        self.non_zero.1 += pod.non_zero.1;
        self.ports.extend(pod.host_ports.iter().cloned());
        if pod.has_affinity() {
            self.with_affinity.push(pod.clone());
        }
        if !pod.anti_affinity.required.is_empty() {
            self.with_required_anti_affinity.push(pod.clone());
        }
        self.pods.push(pod.clone());
        self.generation += 1;
    }

    /// Takes a pod out of the sums; `None` where it is not on this node.
    pub fn remove_pod(&mut self, pod: &Pod) -> Option<Arc<Pod>> {
        let at = self
            .pods
            .iter()
            .position(|p| p.uid == pod.uid && p.key == pod.key)?;
        let removed = self.pods.swap_remove(at);
        self.requested.sub(&removed.requests);
        self.non_zero.0 -= removed.non_zero.0;
        self.non_zero.1 -= removed.non_zero.1;
        for port in &removed.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        self.with_affinity.retain(|p| !Arc::ptr_eq(p, &removed));
        self.with_required_anti_affinity
            .retain(|p| !Arc::ptr_eq(p, &removed));
        self.generation += 1;
        Some(removed)
    }
}
