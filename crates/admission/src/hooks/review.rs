//! AdmissionReview: what a webhook is asked and what it may answer. Upstream: webhook/request/admissionreview.go.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use machinery::causes::go_quote;
use machinery::error::Details;
use machinery::object::str_at;
use machinery::request::{Attempt, GroupVersionKind};
use machinery::{ApiError, conform};
use serde::Serialize;
use serde_json::{Value, json};

use super::matching::{Invocation, named, namespace, operation};
use super::view::View;

const GROUP: &str = "admission.k8s.io";

#[derive(Serialize)]
struct Review<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
struct Request<'a> {
    uid: &'a str,
    #[serde(flatten)]
    facts: &'a Value,
    object: Option<&'a Value>,
    #[serde(rename = "oldObject")]
    before: Option<&'a Value>,
}

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    pub status: Option<Value>,
    /// A JSON patch as it was sent; empty where there is none.
    pub patch: Vec<u8>,
    /// The patch's type; empty where there is none.
    pub patch_type: String,
    pub warnings: Vec<String>,
    pub audit_annotations: BTreeMap<String, String>,
}

/// The version of reviews that a webhook and this server both know; the error is upstream's text.
pub fn version(review_versions: &[String]) -> Result<&str, String> {
    let known = |v: &&String| ["v1", "v1beta1"].contains(&v.as_str());
    review_versions
        .iter()
        .find(known)
        .map(String::as_str)
        .ok_or_else(|| {
            "webhook does not accept known AdmissionReview versions (v1, v1beta1)".to_string()
        })
}

/// An AdmissionRequest without uid and objects.
pub fn request_facts(a: &Attempt<'_>, i: &Invocation) -> Value {
    let kind =
        |k: &GroupVersionKind| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let d = a.descriptor;
    let seen = i.version.as_deref().unwrap_or(d);
    let resource = |d: &machinery::Descriptor| json!({"group": d.group, "version": d.version, "resource": d.resource});
    let mut out = json!({
        "kind": kind(&i.kind), "resource": resource(seen),
        "requestKind": kind(&a.kind()), "requestResource": resource(d),
        "operation": operation(a.operation), "dryRun": a.dry_run, "options": a.options,
        "userInfo": user(a),
    });
    for (field, text) in [
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
        ("name", named(a)),
        ("namespace", namespace(a)),
    ] {
        if !text.is_empty() {
            out[field] = json!(text);
        }
    }
    out
}

fn user(a: &Attempt<'_>) -> Value {
    let mut out = json!({});
    if !a.user.name.is_empty() {
        out["username"] = json!(a.user.name);
    }
    if !a.user.uid.is_empty() {
        out["uid"] = json!(a.user.uid);
    }
    if !a.user.groups.is_empty() {
        out["groups"] = json!(a.user.groups);
    }
    if !a.user.extra.is_empty() {
        out["extra"] = json!(a.user.extra);
    }
    out
}

/// An encoded AdmissionReview.
pub fn encoded(
    a: &Attempt<'_>,
    view: &View,
    i: &Invocation,
    version: &str,
    uid: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Review {
        kind: "AdmissionReview",
        api_version: format!("{GROUP}/{version}"),
        request: Request {
            uid,
            facts: &request_facts(a, i),
            object: view.object(a),
            before: view.before(a),
        },
    })
}

/// Reads an answer to a review of a version; the error is upstream's text.
pub fn answer(body: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Answer, Unread> {
    let mut review = decoded(body).map_err(Unread::Undecodable)?;
    let invalid = |text: String| Err(Unread::Invalid(text));
    let (api_version, kind) = (
        str_at(&review, "apiVersion").to_string(),
        str_at(&review, "kind").to_string(),
    );
    if let Some(schema) = api::schema::lookup(GROUP, version, "AdmissionReview") {
        conform::conform(schema, &mut review).map_err(Unread::Undecodable)?;
    }
    let response = review["response"].take();
    if !response.is_object() {
        return invalid("webhook response was absent".into());
    }
    let patch = match BASE64_STANDARD.decode(str_at(&response, "patch")) {
        Ok(patch) => patch,
        Err(e) => return Err(Unread::Undecodable(format!("illegal base64 data: {e}"))),
    };
    let mut out = Answer {
        allowed: response["allowed"] == true,
        status: response.get("status").filter(|s| s.is_object()).cloned(),
        warnings: serde_json::from_value(response["warnings"].clone()).unwrap_or_default(),
        audit_annotations: serde_json::from_value(response["auditAnnotations"].clone())
            .unwrap_or_default(),
        ..Answer::default()
    };
    if version == "v1beta1" {
        // Neither kind nor uid were looked at, and there is one type of patch.
        if mutating && !patch.is_empty() {
            (out.patch, out.patch_type) = (patch, "JSONPatch".into());
        }
        return Ok(out);
    }
    let answered = str_at(&response, "uid");
    if answered != uid {
        let (wanted, got) = (go_quote(uid), go_quote(answered));
        return invalid(format!("expected response.uid={wanted}, got {got}"));
    }
    if api_version != format!("{GROUP}/v1") || kind != "AdmissionReview" {
        let got = if api_version.contains('/') {
            api_version
        } else {
            format!("/{api_version}")
        };
        return invalid(format!(
            "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {got}, Kind={kind}"
        ));
    }
    let patch_type = response.get("patchType").and_then(Value::as_str);
    if let Some(why) = patch_problem(mutating, patch.is_empty(), patch_type) {
        return invalid(why.into());
    }
    out.patch = patch;
    out.patch_type = patch_type.unwrap_or("").to_string();
    Ok(out)
}

/// Why an answer is no good.
#[derive(Debug, PartialEq)]
pub enum Unread {
    /// It does not decode: the call failed.
    Undecodable(String),
    /// It says something else than it may.
    Invalid(String),
}

fn patch_problem(mutating: bool, empty: bool, patch_type: Option<&str>) -> Option<&'static str> {
    match (mutating, empty, patch_type) {
        (false, false, _) => Some("validating webhook may not return response.patch"),
        (false, true, Some(_)) => Some("validating webhook may not return response.patchType"),
        (true, false, None) => Some("webhook returned response.patch but not response.patchType"),
        (true, true, Some(_)) => Some("webhook returned response.patchType but not response.patch"),
        (true, false, Some("")) => Some("webhook returned invalid response.patchType of \"\""),
        _ => None,
    }
}

fn decoded(body: &[u8]) -> Result<Value, String> {
    let wrong = |why: String| format!("couldn't get version/kind; json parse error: {why}");
    let (review, _) = conform::parse(body, None).map_err(|e| wrong(e.to_string()))?;
    if !review.is_object() {
        return Err(wrong("the answer is no object".into()));
    }
    if str_at(&review, "kind") == "Status" && str_at(&review, "status") != "Success" {
        return Err(str_at(&review, "message").to_string());
    }
    Ok(review)
}

/// The refusal of a webhook as the client reads it.
pub fn denial(hook: &str, status: Option<&Value>) -> ApiError {
    let nothing = Value::Null;
    let status = status.unwrap_or(&nothing);
    let code = status.get("code").and_then(Value::as_u64);
    let code = code.and_then(|c| u16::try_from(c).ok()).unwrap_or(0);
    let code = if code < 400 { 400 } else { code };
    let (message, reason) = (str_at(status, "message"), str_at(status, "reason"));
    let by = format!("admission webhook {} denied the request", go_quote(hook));
    let text = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let mut e = ApiError::new(code, reason, text);
    let details = status.get("details").filter(|d| d.is_object()).cloned();
    e.details = details
        .and_then(|d| serde_json::from_value::<Details>(d).ok())
        .map(Box::new);
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(review: Value, mutating: bool) -> Result<Answer, Unread> {
        answer(review.to_string().as_bytes(), "v1", "u", mutating)
    }

    fn with(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_that_lie_are_told_apart() {
        let invalid = |t: &str| Err(Unread::Invalid(t.into()));
        let patch = BASE64_STANDARD.encode("[]");
        for (review, mutating, expected) in [
            (json!({}), true, invalid("webhook response was absent")),
            (
                with(json!({"uid": "x", "allowed": true})),
                true,
                invalid("expected response.uid=\"u\", got \"x\""),
            ),
            (
                json!({"response": {"uid": "u"}}),
                true,
                invalid(
                    "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
                ),
            ),
            (
                with(json!({"uid": "u", "allowed": true, "patch": patch})),
                true,
                invalid("webhook returned response.patch but not response.patchType"),
            ),
            (
                with(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"})),
                true,
                invalid("webhook returned response.patchType but not response.patch"),
            ),
            (
                with(
                    json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"}),
                ),
                false,
                invalid("validating webhook may not return response.patch"),
            ),
        ] {
            assert_eq!(read(review.clone(), mutating), expected, "{review}");
        }
        let garbage = answer(b"<html>", "v1", "u", true);
        assert!(matches!(garbage, Err(Unread::Undecodable(_))));
        let wrong_type = read(with(json!({"uid": "u", "allowed": "yes"})), true);
        assert!(
            matches!(wrong_type, Err(Unread::Undecodable(_))),
            "{wrong_type:?}"
        );
        let good = read(
            with(json!({"uid": "u", "allowed": true, "warnings": ["w"]})),
            false,
        );
        assert_eq!(good.expect("an answer").warnings, ["w"]);
    }

    #[test]
    fn refusals_have_upstreams_texts() {
        for (status, code, reason, text) in [
            (
                json!({"message": "no"}),
                400,
                "",
                "admission webhook \"h\" denied the request: no",
            ),
            (
                json!({"reason": "Because", "code": 403}),
                403,
                "Because",
                "admission webhook \"h\" denied the request: Because",
            ),
            (
                json!({"code": 200}),
                400,
                "",
                "admission webhook \"h\" denied the request without explanation",
            ),
        ] {
            let e = denial("h", Some(&status));
            let found = (e.code, e.reason.as_str(), e.message.as_str());
            assert_eq!(found, (code, reason, text));
        }
    }
}
