//! Pods that wait for a certain node to become free. Upstream: scheduler internal/queue nominator.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pod::{Pod, PodKey};

/// Nominated pods by node.
#[derive(Debug, Default)]
pub struct Nominator {
    by_node: HashMap<Box<str>, Vec<Arc<Pod>>>,
    node_of: HashMap<PodKey, Box<str>>,
}

// === Nominator ===

impl Nominator {
    /// Notes that a pod is nominated to a node (`""`: to none).
    pub fn set(&mut self, pod: &Arc<Pod>, node: &str) {
        self.remove(&pod.key);
        if node.is_empty() {
            return;
        }
        self.node_of.insert(pod.key.clone(), node.into());
        self.by_node
            .entry(node.into())
            .or_default()
            .push(pod.clone());
    }

    /// Forgets a pod's nomination; gives the node.
    pub fn remove(&mut self, key: &PodKey) -> Option<Box<str>> {
        let node = self.node_of.remove(key)?;
        if let Some(there) = self.by_node.get_mut(&node) {
            there.retain(|p| p.key != *key);
            if there.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(node)
    }

    /// The node a pod is nominated to.
    pub fn node_of(&self, key: &PodKey) -> Option<&str> {
        self.node_of.get(key).map(|n| &**n)
    }

    /// Pods nominated to a node.
    pub fn on(&self, node: &str) -> &[Arc<Pod>] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }
}
