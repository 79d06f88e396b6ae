//! PodCertificateRequests: a node asks only for pods that run on it, with the identities they really have.
//! Upstream: admitPodCertificateRequest of plugin/pkg/admission/noderestriction.

use machinery::ApiError;
use machinery::object::{map_at, str_at, uid};
use machinery::request::{Attempt, Operation};
use serde_json::Value;

use super::{MIRROR, operation_text};
use crate::Context;

/// Checks a write of a node. What caches may not have seen yet is an internal error: it may be tried again.
pub fn check(cx: &Context, a: &Attempt<'_>, node: &str) -> Result<(), ApiError> {
    if a.operation != Operation::Create {
        let op = operation_text(a.operation);
        return Err(a.forbidden(&format!("unexpected operation {op}")));
    }
    if !a.subresource.is_empty() {
        return Err(a.forbidden(&format!("unexpected subresource {}", a.subresource)));
    }
    let object = a.object.as_ref().unwrap_or(&Value::Null);
    let named = str_at(object, "spec.nodeName");
    if named != node {
        return Err(a.forbidden(&format!(
            "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
        )));
    }
    let pod_name = str_at(object, "spec.podName");
    let shown = format!("\"{}/{pod_name}\"", a.namespace);
    let found = find(cx, "nodes", "", node, &format!("node {node:?}"))?;
    let (given, own) = (str_at(object, "spec.nodeUID"), uid(&found));
    if given != own {
        return Err(ApiError::internal(format!(
            "PodCertificateRequest for pod {shown} names node UID {given:?}, inconsistent with the running node ({own:?})"
        )));
    }
    let pod = find(cx, "pods", a.namespace, pod_name, &format!("pod {shown}"))?;
    let (given, own) = (str_at(object, "spec.podUID"), uid(&pod));
    if given != own {
        return Err(ApiError::internal(format!(
            "PodCertificateRequest for pod {shown} contains pod UID ({given:?}) which differs from running pod {own:?}"
        )));
    }
    if str_at(&pod, "spec.nodeName") != node {
        return Err(a.forbidden(&format!(
            "pod {shown} is not running on node {node:?} named in the PodCertificateRequest"
        )));
    }
    if map_at(&pod, "metadata.annotations").is_some_and(|m| m.contains_key(MIRROR)) {
        return Err(a.forbidden(&format!("pod {shown} is a mirror pod")));
    }
    account(cx, a, object, &pod, &shown)
}

fn account(
    cx: &Context,
    a: &Attempt<'_>,
    object: &Value,
    pod: &Value,
    shown: &str,
) -> Result<(), ApiError> {
    let name = str_at(object, "spec.serviceAccountName");
    let own = str_at(pod, "spec.serviceAccountName");
    if name != own {
        return Err(a.forbidden(&format!(
            "PodCertificateRequest for pod {shown} contains serviceAccountName ({name:?}) that differs from running pod ({own:?})"
        )));
    }
    let what = format!("service account \"{}/{name}\"", a.namespace);
    let found = find(cx, "serviceaccounts", a.namespace, name, &what)?;
    let (given, own) = (str_at(object, "spec.serviceAccountUID"), uid(&found));
    if given != own {
        return Err(ApiError::internal(format!(
            "PodCertificateRequest for pod {shown} names service account UID {given:?}, which differs from the running service account ({own:?})"
        )));
    }
    Ok(())
}

fn find(
    cx: &Context,
    resource: &'static str,
    namespace: &str,
    name: &str,
    what: &str,
) -> Result<Value, ApiError> {
    cx.get("", resource, namespace, name).ok_or_else(|| {
        let missing = ApiError::not_found("", resource, name);
        ApiError::internal(format!(
            "while retrieving {what} named in the PodCertificateRequest: {}",
            missing.message
        ))
    })
}
