//! AdmissionReviews: what a webhook is told, and what its answer means.
//! Upstream: apiserver/pkg/admission/plugin/webhook/request, webhook/errors.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use machinery::ApiError;
use machinery::object::{at, i64_at, list_at, set, str_at};
use machinery::request::Attempt;
use machinery::{Descriptor, SubresourceKind};
use serde_json::{Value, json};

use super::hooks::{Hook, operation};

/// What a webhook said of a write that it let pass.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    /// A JSON patch.
    pub patch: Option<Vec<u8>>,
    pub warnings: Vec<String>,
    /// Why the write is refused: a Status without what webhooks need not fill in.
    pub refusal: Option<Value>,
}

/// The scale subresource of a write, if it is one.
fn scale_of<'a>(d: &'a Descriptor, sub: &str) -> Option<(&'a str, &'a str)> {
    let found = d.subresources.iter().find(|s| s.name == sub)?;
    match &found.kind {
        SubresourceKind::Scale { spec, status, .. } => Some((spec, status)),
        _ => None,
    }
}

/// An object as webhooks of a version see it; that of a scale subresource is a Scale.
fn shown(a: &Attempt<'_>, object: Option<&Value>, version: &str) -> Value {
    let Some(object) = object else {
        return Value::Null;
    };
    if let Some((spec, status)) = scale_of(a.descriptor, a.subresource) {
        let meta = at(object, "metadata");
        let field = |name: &str| meta.and_then(|m| m.get(name)).cloned();
        let mut scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {},
            "spec": {"replicas": i64_at(object, spec).unwrap_or(0)},
            "status": {"replicas": i64_at(object, status).unwrap_or(0)}});
        for name in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
        ] {
            if let Some(value) = field(name) {
                scale["metadata"][name] = value;
            }
        }
        return scale;
    }
    let mut object = object.clone();
    if version != a.descriptor.version
        && str_at(&object, "apiVersion") == a.descriptor.api_version()
    {
        // Custom resources without a conversion webhook differ in this only.
        set(
            &mut object,
            "apiVersion",
            json!(format!("{}/{version}", a.descriptor.group)),
        );
    }
    object
}

/// Brings what a webhook made of the shown object back.
pub fn take_back(a: &Attempt<'_>, before: &Value, mut after: Value) -> Value {
    if let Some((spec, _)) = scale_of(a.descriptor, a.subresource) {
        let mut object = before.clone();
        set(
            &mut object,
            spec,
            json!(i64_at(&after, "spec.replicas").unwrap_or(0)),
        );
        return object;
    }
    if let Some(version) = before.get("apiVersion") {
        set(&mut after, "apiVersion", version.clone());
    }
    after
}

/// The object that a patch is for.
pub fn patched(a: &Attempt<'_>, version: &str) -> Value {
    shown(a, a.object.as_ref(), version)
}

/// Group, version and kind of a write's object.
fn kind(a: &Attempt<'_>, version: &str, object: &Value) -> Value {
    let d = a.descriptor;
    let api_version = str_at(object, "apiVersion");
    if api_version.is_empty() {
        return json!({"group": d.group, "version": version, "kind": d.kind});
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    json!({"group": group, "version": version, "kind": str_at(object, "kind")})
}

/// The review that a webhook is sent.
pub fn request(hook: &Hook, a: &Attempt<'_>, version: &str, uid: &str) -> Value {
    let d = a.descriptor;
    let object = shown(a, a.object.as_ref(), version);
    let old = shown(a, a.before, version);
    let own = shown(a, a.object.as_ref().or(a.before), &d.version);
    let known = if object.is_null() { &old } else { &object };
    let resource =
        |version: &str| json!({"group": d.group, "version": version, "resource": d.resource});
    let namespace = if d.group.is_empty() && d.resource == "namespaces" {
        a.name
    } else {
        a.namespace
    };
    let mut request = json!({
        "uid": uid,
        "kind": kind(a, version, known), "resource": resource(version),
        "requestKind": kind(a, &d.version, &own), "requestResource": resource(&d.version),
        "operation": operation(a.operation),
        "userInfo": user(a),
        "object": object, "oldObject": old, "dryRun": a.dry_run, "options": a.options,
    });
    for (key, value) in [("name", a.name), ("namespace", namespace)] {
        if !value.is_empty() {
            request[key] = json!(value);
        }
    }
    if !a.subresource.is_empty() {
        request["subResource"] = json!(a.subresource);
        request["requestSubResource"] = json!(a.subresource);
    }
    json!({"kind": "AdmissionReview", "apiVersion": review_version(hook), "request": request})
}

fn user(a: &Attempt<'_>) -> Value {
    let mut user = json!({"username": a.user.name});
    if !a.user.uid.is_empty() {
        user["uid"] = json!(a.user.uid);
    }
    if !a.user.groups.is_empty() {
        user["groups"] = json!(a.user.groups);
    }
    if !a.user.extra.is_empty() {
        user["extra"] = json!(a.user.extra);
    }
    user
}

fn review_version(hook: &Hook) -> String {
    format!("admission.k8s.io/{}", hook.review)
}

/// Reads an answer; an error where it is none that the version allows.
pub fn verdict(hook: &Hook, uid: &str, answer: &Value) -> Result<Verdict, String> {
    let wanted = review_version(hook);
    let (version, kind) = (str_at(answer, "apiVersion"), str_at(answer, "kind"));
    if version != wanted || kind != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of {wanted}, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let response = at(answer, "response").filter(|r| r.is_object());
    let response = response.ok_or("webhook response was absent")?;
    let found = str_at(response, "uid");
    if found != uid {
        return Err(format!("expected response.uid=\"{uid}\", got \"{found}\""));
    }
    let warnings = list_at(response, "warnings").iter();
    let warnings = warnings.filter_map(|w| w.as_str().map(String::from));
    let mut verdict = Verdict {
        warnings: warnings.collect(),
        ..Verdict::default()
    };
    if response.get("allowed") != Some(&Value::Bool(true)) {
        verdict.refusal = Some(at(response, "status").cloned().unwrap_or_default());
        return Ok(verdict);
    }
    let patch = str_at(response, "patch");
    let form = str_at(response, "patchType");
    if patch.is_empty() {
        if hook.review == "v1" && !form.is_empty() {
            return Err("webhook returned response.patchType but not response.patch".into());
        }
        return Ok(verdict);
    }
    if form != "JSONPatch" && (hook.review == "v1" || !form.is_empty()) {
        return Err(format!(
            "webhook returned response.patch but not response.patchType JSONPatch, got {form:?}"
        ));
    }
    let patch = BASE64_STANDARD.decode(patch);
    verdict.patch = Some(patch.map_err(|e| format!("response.patch is no base64: {e}"))?);
    Ok(verdict)
}

/// The error of a write that a webhook refuses.
pub fn refused(hook: &str, status: &Value) -> ApiError {
    let denied = format!("admission webhook {hook:?} denied the request");
    let message = match (str_at(status, "message"), str_at(status, "reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = i64_at(status, "code").unwrap_or(0);
    let code = u16::try_from(code)
        .ok()
        .filter(|c| *c >= 400)
        .unwrap_or(400);
    let mut error = ApiError::new(code, str_at(status, "reason"), message);
    let details = at(status, "details").cloned();
    error.details = details.and_then(|d| serde_json::from_value(d).ok());
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::hooks;

    fn hook() -> Hook {
        let hook = json!({"name": "h", "admissionReviewVersions": ["v1"], "sideEffects": "None"});
        hooks::of(&[json!({"webhooks": [hook]})]).remove(0)
    }

    fn read(response: Value) -> Result<Verdict, String> {
        let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": response});
        verdict(&hook(), "u", &answer)
    }

    #[test]
    fn answers_are_read_or_refused() {
        let passed = read(json!({"uid": "u", "allowed": true, "warnings": ["w"]}));
        assert_eq!(passed.expect("passes").warnings, ["w"]);
        let patch = BASE64_STANDARD.encode("[]");
        let changed =
            read(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": patch}));
        assert_eq!(changed.expect("passes").patch.as_deref(), Some(&b"[]"[..]));
        for (response, text) in [
            (
                json!({"uid": "x", "allowed": true}),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                json!({"uid": "u", "allowed": true, "patch": patch}),
                "not response.patchType JSONPatch",
            ),
            (
                json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
                "not response.patch",
            ),
            (Value::Null, "webhook response was absent"),
        ] {
            let error = read(response).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn refusals_read_as_upstreams() {
        for (status, code, text) in [
            (
                json!({"message": "no"}),
                400,
                "admission webhook \"h\" denied the request: no",
            ),
            (
                json!({"reason": "r", "code": 403}),
                403,
                "admission webhook \"h\" denied the request: r",
            ),
            (
                json!({"code": 200}),
                400,
                "admission webhook \"h\" denied the request without explanation",
            ),
        ] {
            let error = refused("h", &status);
            assert_eq!((error.code, error.message.as_str()), (code, text));
        }
    }
}
