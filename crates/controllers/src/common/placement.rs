//! Which nodes a pod asks for. Upstream: component-helpers/scheduling/corev1/nodeaffinity.

use api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::common::object::Object;

/// Whether nodeSelector and required node affinity accept a node.
pub fn accepts(spec: &PodSpec, node: &Node) -> bool {
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(k, v)| node.labels().get(k) == Some(v)) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    match required {
        None => true,
        Some(selector) => selector.node_selector_terms.iter().any(|t| term(t, node)),
    }
}

fn term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or(&[]);
    let fields = term.match_fields.as_deref().unwrap_or(&[]);
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |r: &NodeSelectorRequirement| {
        let value = node.labels().get(&r.key).map(String::as_str);
        requirement(r, value)
    };
    let field =
        |r: &NodeSelectorRequirement| r.key == "metadata.name" && requirement(r, Some(node.name()));
    expressions.iter().all(label) && fields.iter().all(field)
}

fn requirement(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or(&[]);
    let within = || value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |t: &str| t.parse::<i64>().ok();
    let bound = || values.first().and_then(|v| number(v));
    match r.operator.as_str() {
        "In" => within(),
        "NotIn" => !within(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value
            .and_then(number)
            .zip(bound())
            .is_some_and(|(v, b)| v > b),
        "Lt" => value
            .and_then(number)
            .zip(bound())
            .is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

/// The node named by the affinity that pods of DaemonSets carry.
pub fn target_node(spec: &PodSpec) -> Option<&str> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|t| t.match_fields.iter().flatten());
    let mut named = fields.filter(|r| r.key == "metadata.name" && r.operator == "In");
    named.next()?.values.as_ref()?.first().map(String::as_str)
}
