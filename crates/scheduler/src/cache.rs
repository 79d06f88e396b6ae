//! Which pods are where: those the API says, and those just placed whose binding is still on its way
//! ("assumed"). Upstream: scheduler internal/cache.

use std::collections::HashMap;
use std::sync::Arc;

use crate::node::Node;
use crate::pod::{Pod, PodKey};
use crate::snapshot::Snapshot;

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cache {
    pub snapshot: Snapshot,
    pods: HashMap<PodKey, Placed>,
    /// Pods on nodes that are not (or no longer) known.
    orphans: HashMap<Box<str>, Vec<Arc<Pod>>>,
}

#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    assumed: bool,
}

// === Cache ===

impl Cache {
    /// A pod with a node, assumed ones included.
    pub fn get(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.pods.get(key).map(|p| &p.pod)
    }

    /// Whether a pod is placed and not yet confirmed by the API.
    pub fn is_assumed(&self, key: &PodKey) -> bool {
        self.pods.get(key).is_some_and(|p| p.assumed)
    }

    /// Places a pod ahead of its binding; its `node_name` is the node.
    pub fn assume(&mut self, pod: Arc<Pod>) {
        self.place(pod, true);
    }

    /// Undoes `assume`. A pod that the API has confirmed meanwhile stays.
    pub fn forget(&mut self, key: &PodKey) -> Option<Arc<Pod>> {
        if self.is_assumed(key) {
            self.remove(key)
        } else {
            None
        }
    }

    /// A pod that the API says is on a node; gives what was known of it before.
    pub fn set(&mut self, pod: Arc<Pod>) -> Option<Arc<Pod>> {
        self.place(pod, false)
    }

    /// A pod that is gone.
    pub fn remove(&mut self, key: &PodKey) -> Option<Arc<Pod>> {
        let placed = self.pods.remove(key)?;
        self.take_off(&placed.pod);
        Some(placed.pod)
    }

    /// A node that is new or changed; gives the object before.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let name = node.name.clone();
        let before = self.snapshot.set_node(node);
        for pod in self.orphans.remove(&*name).unwrap_or_default() {
            self.snapshot.add_pod(&pod);
        }
        before
    }

    /// A node that is gone; pods on it are kept until they go.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let info = self.snapshot.remove_node(name)?;
        if !info.pods.is_empty() {
            self.orphans.insert(name.into(), info.pods);
        }
        Some(info.node)
    }

    /// Keys of all placed pods.
    pub fn keys(&self) -> impl Iterator<Item = &PodKey> {
        self.pods.keys()
    }

    fn place(&mut self, pod: Arc<Pod>, assumed: bool) -> Option<Arc<Pod>> {
        let before = self.remove(&pod.key);
        if !self.snapshot.add_pod(&pod) {
            let there = self.orphans.entry(pod.node_name.clone()).or_default();
            there.push(pod.clone());
        }
        self.pods.insert(pod.key.clone(), Placed { pod, assumed });
        before
    }

    fn take_off(&mut self, pod: &Pod) {
        if !self.snapshot.remove_pod(pod)
            && let Some(there) = self.orphans.get_mut(&pod.node_name)
        {
            there.retain(|p| p.key != pod.key);
            if there.is_empty() {
                self.orphans.remove(&pod.node_name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn pods_on(c: &Cache, node: &str) -> usize {
        c.snapshot.get(node).map_or(0, |n| n.pods.len())
    }

    #[test]
    fn assumed_pods_count_until_forgotten_or_confirmed() {
        let mut c = Cache::default();
        c.set_node(testing::node(json!({"metadata": {"name": "n"}})));
        let pod = testing::pod(json!({"metadata": {"name": "p", "uid": "1"}}));
        c.assume(Arc::new(pod.on("n")));
        assert_eq!(pods_on(&c, "n"), 1);
        assert!(c.forget(&pod.key).is_some());
        assert_eq!(pods_on(&c, "n"), 0);
        c.assume(Arc::new(pod.on("n")));
        c.set(Arc::new(pod.on("n")));
        assert!(c.forget(&pod.key).is_none());
        assert_eq!(pods_on(&c, "n"), 1);
    }

    #[test]
    fn pods_wait_for_their_node() {
        let mut c = Cache::default();
        let pod = testing::pod(json!({"metadata": {"name": "p", "uid": "1"}}));
        c.set(Arc::new(pod.on("n")));
        assert_eq!(pods_on(&c, "n"), 0);
        c.set_node(testing::node(json!({"metadata": {"name": "n"}})));
        assert_eq!(pods_on(&c, "n"), 1);
        c.remove_node("n");
        assert!(c.remove(&pod.key).is_some());
        c.set_node(testing::node(json!({"metadata": {"name": "n"}})));
        assert_eq!(pods_on(&c, "n"), 0);
    }
}
