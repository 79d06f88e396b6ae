//! Definitions in groups of the Kubernetes community say who approved them, or that nobody did.
//! Upstream: apiextensions-apiserver/pkg/apihelpers/helpers.go, pkg/controller/apiapproval.

use machinery::Causes;
use machinery::object::{map_at, str_at};
use serde_json::{Value, json};

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn annotation(obj: &Value) -> &str {
    let all = map_at(obj, "metadata.annotations");
    let text = all.and_then(|a| a.get(ANNOTATION)).and_then(Value::as_str);
    text.unwrap_or("")
}

fn is_protected(obj: &Value) -> bool {
    let group = str_at(obj, "spec.group");
    let end = |e: &str| group == e || group.ends_with(&format!(".{e}"));
    (end("k8s.io") || end("kubernetes.io")) && !group.ends_with(".x-k8s.io")
}

/// What the annotation says, and upstream's words for it.
fn approval(obj: &Value) -> (Approval, String) {
    let text = annotation(obj);
    let host = text.split_once("://").map(|(_, rest)| rest);
    let must = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    if text.is_empty() {
        (Approval::Missing, format!("{must}, {SEE}"))
    } else if text.starts_with("unapproved") {
        let quoted = machinery::causes::go_quote(text);
        (Approval::Bypassed, format!("not approved: {quoted}"))
    } else if host.is_some_and(|h| !h.is_empty() && !h.starts_with('/')) {
        (Approval::Approved, format!("approved in {text}"))
    } else {
        let why =
            format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}");
        (Approval::Invalid, why)
    }
}

/// Checks the annotation, where it says something else than before.
pub fn validate(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    if !is_protected(obj) {
        return;
    }
    let (state, why) = approval(obj);
    if before.is_some_and(|b| approval(b).0 == state) {
        return;
    }
    c.at("metadata", |c| {
        c.at("annotations", |c| {
            c.key(ANNOTATION, |c| match state {
                Approval::Missing => c.required(why),
                Approval::Invalid => c.invalid(&json!(annotation(obj)), why),
                Approval::Approved | Approval::Bypassed => {}
            });
        });
    });
}

/// The condition KubernetesAPIApprovalPolicyConformant: status, reason, message.
pub fn condition(obj: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(obj) {
        return None;
    }
    let (state, message) = approval(obj);
    let (status, reason) = match state {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
    };
    Some((status, reason, message))
}
