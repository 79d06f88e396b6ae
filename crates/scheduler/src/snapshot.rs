//! The nodes as one scheduling cycle sees them. It is kept up to date change by change, and a cycle
//! runs alone with it, so nothing is copied. Upstream: internal/cache snapshot and nodeTree.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::node::{Node, NodeInfo};
use crate::pod::Pod;

/// All nodes, in the order in which candidates are looked for: one of each zone after the other.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// Zones in first-seen order, with their nodes in order of arrival.
    zones: Vec<(String, Vec<Arc<str>>)>,
    reorder: bool,
    with_affinity: BTreeSet<Arc<str>>,
    with_required_anti_affinity: BTreeSet<Arc<str>>,
    /// Nodes by image name.
    images: HashMap<Box<str>, usize>,
}

// === Snapshot ===

impl Snapshot {
    /// All nodes.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node by name.
    pub fn get(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    /// A node's place.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Nodes with pods that have affinity or anti-affinity of any kind.
    pub fn with_affinity(&self) -> impl Iterator<Item = &NodeInfo> {
        self.with_affinity.iter().filter_map(|n| self.get(n))
    }

    /// Nodes with pods that have required anti-affinity.
    pub fn with_required_anti_affinity(&self) -> impl Iterator<Item = &NodeInfo> {
        let names = self.with_required_anti_affinity.iter();
        names.filter_map(|n| self.get(n))
    }

    /// How many nodes have an image.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// Adds a node, or replaces its object; the pods it has stay. Gives the object before.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        self.count_images(&node, 1);
        let Some(at) = self.position(&node.name) else {
            self.enter_zone(&node);
            self.index.insert(node.name.clone(), self.nodes.len());
            self.nodes.push(NodeInfo::new(node));
            self.reorder = true;
            return None;
        };
        let info = &mut self.nodes[at];
        info.generation += 1;
        let before = std::mem::replace(&mut info.node, node.clone());
        self.count_images(&before, -1);
        if before.zone() != node.zone() {
            self.leave_zone(&before);
            self.enter_zone(&node);
            self.reorder = true;
        }
        Some(before)
    }

    /// Removes a node; gives it with its pods.
    pub fn remove_node(&mut self, name: &str) -> Option<NodeInfo> {
        let at = self.index.remove(name)?;
        let removed = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.node.name.clone(), at);
        }
        self.leave_zone(&removed.node);
        self.count_images(&removed.node, -1);
        self.with_affinity.remove(name);
        self.with_required_anti_affinity.remove(name);
        self.reorder = true;
        Some(removed)
    }

    /// Adds a pod to its node; `false` where there is no such node.
    pub fn add_pod(&mut self, pod: &Arc<Pod>) -> bool {
        let Some(at) = self.position(&pod.node_name) else {
            return false;
        };
        self.nodes[at].add_pod(pod);
        self.note_affinity(at);
        true
    }

    /// Removes a pod from its node; `false` where it is not there.
    pub fn remove_pod(&mut self, pod: &Pod) -> bool {
        let Some(at) = self.position(&pod.node_name) else {
            return false;
        };
        let removed = self.nodes[at].remove_pod(pod).is_some();
        self.note_affinity(at);
        removed
    }

    /// Brings the nodes into their order after nodes came, went or moved. Called before each cycle.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.reorder) {
            return;
        }
        let longest = self.zones.iter().map(|(_, n)| n.len()).max().unwrap_or(0);
        let mut old: Vec<Option<NodeInfo>> = std::mem::take(&mut self.nodes)
            .into_iter()
            .map(Some)
            .collect();
        let mut ordered = Vec::with_capacity(old.len());
        for i in 0..longest {
            for (_, names) in &self.zones {
                let at = names.get(i).and_then(|n| self.index.get(n));
                ordered.extend(at.and_then(|at| old[*at].take()));
            }
        }
        self.nodes = ordered;
        for (at, info) in self.nodes.iter().enumerate() {
            self.index.insert(info.node.name.clone(), at);
        }
    }

    fn note_affinity(&mut self, at: usize) {
        let info = &self.nodes[at];
        let name = &info.node.name;
        for (set, filled) in [
            (&mut self.with_affinity, !info.with_affinity.is_empty()),
            (
                &mut self.with_required_anti_affinity,
                !info.with_required_anti_affinity.is_empty(),
            ),
        ] {
            // Most pods have none: nothing to look up then.
            if filled {
                set.insert(name.clone());
            } else if !set.is_empty() {
                set.remove(name);
            }
        }
    }

    fn enter_zone(&mut self, node: &Node) {
        let zone = node.zone();
        match self.zones.iter_mut().find(|(z, _)| *z == zone) {
            Some((_, names)) => names.push(node.name.clone()),
            None => self.zones.push((zone, vec![node.name.clone()])),
        }
    }

    fn leave_zone(&mut self, node: &Node) {
        let zone = node.zone();
        if let Some((_, names)) = self.zones.iter_mut().find(|(z, _)| *z == zone) {
            names.retain(|n| *n != node.name);
        }
        self.zones.retain(|(_, names)| !names.is_empty());
    }

    fn count_images(&mut self, node: &Node, by: isize) {
        for (name, _) in &node.images {
            let count = self.images.entry(name.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.images.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, zone: &str) -> Arc<Node> {
        let object = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"images": [{"names": ["i:1"], "sizeBytes": 5}]}});
        Arc::new(Node::from_slice(object.to_string().as_bytes()).unwrap())
    }

    fn order(s: &mut Snapshot) -> Vec<String> {
        s.settle();
        s.nodes().iter().map(|n| n.name().to_string()).collect()
    }

    #[test]
    fn nodes_alternate_between_zones() {
        let mut s = Snapshot::default();
        for (name, zone) in [("a", "1"), ("b", "1"), ("c", "1"), ("d", "2"), ("e", "3")] {
            s.set_node(node(name, zone));
        }
        assert_eq!(order(&mut s), ["a", "d", "e", "b", "c"]);
        assert_eq!(s.nodes_with_image("i:1"), 5);
        assert!(s.remove_node("d").is_some());
        assert_eq!(order(&mut s), ["a", "e", "b", "c"]);
        s.set_node(node("b", "2"));
        assert_eq!(order(&mut s), ["a", "e", "b", "c"]);
        assert_eq!(s.nodes_with_image("i:1"), 4);
        assert_eq!(s.get("c").unwrap().name(), "c");
    }
}
