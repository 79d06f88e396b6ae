//! A pod as the scheduler sees it: parsed once from the stored bytes, only what scheduling needs,
//! everything that plugins match against already compiled.

use std::sync::Arc;

use api::core::v1 as core;
use api::selector::LabelSelector;
use client::Entry;
use jiff::Timestamp;

use crate::labels::{self, Labels, NodeSelector, NodeTerm};
use crate::resource::Resource;

mod view;

/// Namespace and name: what identifies a pod in queue and cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A pod. Never changes: a change in the API makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    pub key: PodKey,
    pub uid: Arc<str>,
    pub labels: Labels,
    pub generation: i64,
    pub deleting: bool,
    /// The controller's kind and name, where there is one.
    pub controller: Option<(Box<str>, Box<str>)>,
    pub scheduler_name: Box<str>,
    pub node_name: Box<str>,
    pub nominated_node: Box<str>,
    pub priority: i32,
    pub never_preempts: bool,
    pub gates: Vec<Box<str>>,
    pub tolerations: Vec<core::Toleration>,
    /// `spec.nodeSelector` as one requirement after the other.
    pub node_selector: LabelSelector,
    pub required_nodes: Option<NodeSelector>,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    pub affinity: Terms,
    pub anti_affinity: Terms,
    pub spread: Vec<Spread>,
    pub requests: Resource,
    /// CPU and memory with what scoring assumes where nothing is asked.
    pub non_zero: (i64, i64),
    pub host_ports: Vec<HostPort>,
    /// Images of all containers and image volumes, `:latest` written out.
    pub images: Vec<Box<str>>,
    pub containers: usize,
    pub volumes: Vec<Volume>,
    /// Node features the pod needs.
    pub features: Vec<&'static str>,
    pub has_claims: bool,
    pub phase: Box<str>,
    pub start: Option<Timestamp>,
    pub scheduled: Option<Condition>,
    /// Whether the scheduler has marked this pod as a victim.
    pub preempted: bool,
}

/// The PodScheduled condition as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
    pub observed_generation: i64,
    pub last_transition: Option<String>,
}

/// Terms of pod affinity or anti-affinity.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub required: Vec<AffinityTerm>,
    pub preferred: Vec<(i64, AffinityTerm)>,
}

/// One term: which pods, compared over which topology.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub topology_key: Box<str>,
    namespaces: Vec<Box<str>>,
    namespace_selector: Option<LabelSelector>,
    selector: Option<LabelSelector>,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    pub max_skew: i64,
    pub min_domains: i64,
    pub topology_key: Box<str>,
    /// DoNotSchedule.
    pub hard: bool,
    /// `None` matches nothing.
    pub selector: Option<LabelSelector>,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

/// A port of the host that a container takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: Box<str>,
    pub protocol: Box<str>,
    pub port: i32,
}

/// A volume, as far as scheduling looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    Claim(Box<str>),
    /// A generic ephemeral volume: the name of the claim made for it.
    Ephemeral {
        claim: Box<str>,
    },
    /// A disk that only one user may write: its identity, and whether it is used read-only.
    Disk {
        id: Box<str>,
        read_only: bool,
        /// Two read-only users may share it.
        shareable: bool,
    },
}

// === Pod ===

impl Pod {
    /// The pod of a stored object.
    pub fn parse(entry: &Entry) -> Result<Self, serde_json::Error> {
        view::parse(&entry.bytes)
    }

    /// The pod of JSON bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        view::parse(bytes)
    }

    /// Whether the pod has ended: it no longer counts anywhere.
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed")
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        self.key.to_string()
    }

    /// Whether any pod affinity or anti-affinity is declared.
    pub fn has_affinity(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty())
    }

    /// Names of the claims of all its volumes.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|v| match v {
            Volume::Claim(name) | Volume::Ephemeral { claim: name } => Some(&**name),
            Volume::Disk { .. } => None,
        })
    }

    /// Whether the required node selector and affinity match a node.
    pub fn selects(&self, name: &str, labels: &Labels) -> bool {
        labels.satisfy(&self.node_selector)
            && self
                .required_nodes
                .as_ref()
                .is_none_or(|s| s.matches(name, labels))
    }

    /// The same pod on a node.
    pub fn on(&self, node: &str) -> Self {
        Self {
            node_name: node.into(),
            ..self.clone()
        }
    }
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PodKey {
    /// A key of its two names.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

// === Terms ===

impl Terms {
    /// Whether there is no term.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.preferred.is_empty()
    }
}

impl AffinityTerm {
    /// Compiles a term of a pod in `namespace`.
    pub fn new(term: &core::PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: Vec<Box<str>> = term
            .namespaces
            .iter()
            .flatten()
            .map(|n| n.as_str().into())
            .collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.into());
        }
        Self {
            topology_key: term.topology_key.as_str().into(),
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().and_then(labels::selector),
            selector: term.label_selector.as_ref().and_then(labels::selector),
        }
    }

    /// The same term with its namespace selector replaced by the namespaces it selects now.
    pub fn resolve(&self, selected: impl Fn(&LabelSelector) -> Vec<Box<str>>) -> Self {
        let mut out = self.clone();
        if let Some(s) = out.namespace_selector.take_if(|s| !s.is_empty()) {
            out.namespaces.extend(selected(&s));
        }
        out
    }

    /// Whether the term means a pod; `namespace_labels` gives the labels of the pod's namespace.
    pub fn matches(&self, pod: &Pod, namespace_labels: &dyn Fn(&str) -> Labels) -> bool {
        let Some(selector) = &self.selector else {
            return false;
        };
        if !pod.labels.satisfy(selector) {
            return false;
        }
        self.namespaces.iter().any(|n| **n == *pod.key.namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|s| s.is_empty() || namespace_labels(&pod.key.namespace).satisfy(s))
    }
}

impl HostPort {
    /// Whether both cannot be on one node. `0.0.0.0` stands for every address.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == ALL || &*other.ip == ALL)
    }
}
