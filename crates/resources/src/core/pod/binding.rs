//! pods/binding: a pod gets its node. Upstream: pkg/registry/core/pod/storage BindingREST; validation-pod §16.

use machinery::object::{is_deleting, list_at, map_at, map_mut, remove, set, str_at};
use machinery::{ApiError, WriteContext};
use serde_json::{Value, json};

use crate::time::rfc3339;

/// Does to a pod what a Binding asks for.
pub fn bind(pod: &mut Value, binding: &Value, cx: &WriteContext) -> Result<(), ApiError> {
    let name = str_at(pod, "metadata.name").to_string();
    let kind = str_at(binding, "kind");
    if !kind.is_empty() && kind != "Binding" {
        return Err(ApiError::bad_request(format!(
            "not a Binding object: {kind}"
        )));
    }
    let given = str_at(binding, "metadata.name");
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let (target, node) = (
        str_at(binding, "target.kind"),
        str_at(binding, "target.name"),
    );
    // Upstream gives these field errors bare: a 500 with their text.
    if !["", "Node"].contains(&target) {
        return Err(bare(format!(
            "target.kind: Unsupported value: \"{target}\": supported values: \"Node\", \"<empty>\""
        )));
    }
    if node.is_empty() {
        return Err(bare("target.name: Required value".into()));
    }
    let refuse = |why: String| Err(ApiError::conflict("", "pods/binding", &name, &why));
    if is_deleting(pod) {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let assigned = str_at(pod, "spec.nodeName");
    if !assigned.is_empty() {
        return refuse(format!(
            "pod {name} is already assigned to node \"{assigned}\""
        ));
    }
    if !list_at(pod, "spec.schedulingGates").is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    set(pod, "spec.nodeName", json!(node));
    remove(pod, "status.nominatedNodeName");
    for field in ["annotations", "labels"] {
        let path = format!("metadata.{field}");
        if let Some(more) = map_at(binding, &path).filter(|m| !m.is_empty()) {
            map_mut(pod, &path).extend(more.clone());
        }
    }
    scheduled(pod, cx);
    Ok(())
}

/// Condition PodScheduled becomes True.
fn scheduled(pod: &mut Value, cx: &WriteContext) {
    let mut conditions = list_at(pod, "status.conditions").to_vec();
    let known = conditions
        .iter()
        .position(|c| str_at(c, "type") == "PodScheduled");
    let since = known
        .map(|i| &conditions[i])
        .filter(|c| str_at(c, "status") == "True")
        .map(|c| str_at(c, "lastTransitionTime").to_string());
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| rfc3339(cx.now)),
    });
    match known {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
    set(pod, "status.conditions", json!(conditions));
}

fn bare(text: String) -> ApiError {
    ApiError::new(500, "", text)
}
