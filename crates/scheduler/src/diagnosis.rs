//! Why a pod fits nowhere, and the message that says so. Upstream: framework.FitError.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::framework::{Code, PluginIndex, PluginSet, Rejection};

/// What spoke against each node.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Nodes of the snapshot.
    pub nodes: usize,
    /// By node: who rejected it and why.
    pub rejected: HashMap<Arc<str>, (PluginIndex, Rejection)>,
    /// What speaks against all nodes that are not in `rejected`.
    pub absent: Option<Rejection>,
    /// A rejection before any node was looked at.
    pub pre_filter: Option<Rejection>,
    /// Everyone who rejected something, and of these who is waiting.
    pub plugins: PluginSet,
    pub pending: PluginSet,
}

// === Diagnosis ===

impl Diagnosis {
    /// Nothing known yet.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            rejected: HashMap::new(),
            absent: None,
            pre_filter: None,
            plugins: PluginSet::default(),
            pending: PluginSet::default(),
        }
    }

    /// A plugin rejected something.
    pub fn note(&mut self, plugin: PluginIndex, code: Code) {
        if code == Code::Pending {
            self.pending.insert(plugin);
        } else {
            self.plugins.insert(plugin);
        }
    }

    /// A plugin rejected a node.
    pub fn reject(&mut self, node: Arc<str>, plugin: PluginIndex, r: Rejection) {
        self.note(plugin, r.code);
        self.rejected.insert(node, (plugin, r));
    }

    /// Whether removing pods from a node may help.
    pub fn may_help(&self, node: &str) -> bool {
        match self.rejected.get(node) {
            Some((_, r)) => r.code == Code::Unschedulable,
            None => false,
        }
    }

    /// The message for users; `post_filter` is what the PostFilter plugins add.
    pub fn message(&self, post_filter: &str) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut out = format!("0/{} nodes are available:", self.nodes);
        if let Some(r) = &self.pre_filter {
            out.push_str(&format!(" {}.", r.message()));
        } else {
            let absent = self.nodes.saturating_sub(self.rejected.len());
            let absent = self.absent.as_ref().map(|r| (r, absent));
            let each = self.rejected.values().map(|(_, r)| (r, 1));
            out.push_str(&histogram(each.chain(absent)));
        }
        if !post_filter.is_empty() {
            out.push(' ');
            out.push_str(post_filter);
        }
        out
    }
}

/// ` <count> <reason>, ….`, sorted as texts; empty where there is no reason.
pub fn histogram<'a>(rejections: impl Iterator<Item = (&'a Rejection, usize)>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (r, times) in rejections.filter(|(_, times)| *times > 0) {
        for reason in &r.reasons {
            *counts.entry(reason).or_default() += times;
        }
    }
    let mut parts: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
    if parts.is_empty() {
        return String::new();
    }
    parts.sort();
    format!(" {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_counts_reasons_in_text_order() {
        let mut d = Diagnosis::new(14);
        for i in 0..10 {
            let r = Rejection::unschedulable("Insufficient cpu");
            d.reject(format!("a{i}").into(), 5, r);
        }
        for i in 0..2 {
            let mut r = Rejection::unschedulable("Insufficient memory");
            r.reasons.push("Too many pods".into());
            d.reject(format!("b{i}").into(), 5, r);
        }
        assert_eq!(
            d.message("preemption: none."),
            "0/14 nodes are available: 10 Insufficient cpu, 2 Insufficient memory, 2 Too many pods. preemption: none."
        );
        d.absent = Some(Rejection::unresolvable(
            "node(s) didn't satisfy plugin(s) [NodeAffinity]",
        ));
        assert!(
            d.message("")
                .contains("2 node(s) didn't satisfy plugin(s) [NodeAffinity].")
        );
    }

    #[test]
    fn without_nodes_and_before_nodes_the_message_differs() {
        assert_eq!(
            Diagnosis::new(0).message(""),
            "no nodes available to schedule pods"
        );
        let mut d = Diagnosis::new(3);
        d.pre_filter = Some(Rejection::unresolvable(
            "persistentvolumeclaim \"x\" not found",
        ));
        assert_eq!(
            d.message("y"),
            "0/3 nodes are available: persistentvolumeclaim \"x\" not found. y"
        );
    }
}
