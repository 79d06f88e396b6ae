//! PATCH. Upstream: apiserver handlers/patch.go; api-semantics §8.

use bytes::Bytes;
use machinery::ApiError;
use serde_json::Value;

use super::managed;
use crate::call::{Call, Validation};
use crate::decode;
use crate::response::Answer;

/// Server-side apply in CBOR, where the gate `CBORServingAndStorage` is on.
const CBOR_APPLY: &str = "application/apply-patch+cbor";

/// The patch types, in upstream's order.
const TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    CBOR_APPLY,
];

/// Those of custom resources.
const CUSTOM_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    CBOR_APPLY,
];

/// Patches the object that the call names.
pub async fn patch(call: &Call, body: &Bytes, sub: &str) -> Result<Answer, ApiError> {
    let kind = call.content_type();
    let types = types(call);
    if !types.contains(&kind) {
        return Err(ApiError::unsupported_media_type(types));
    }
    let dry_run = call.write_options()?;
    if call.applies() {
        return apply(call, body, sub, dry_run).await;
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return Err(ApiError::bad_request("invalid JSON patch"));
    }
    let mut make = |before: &Value| {
        let mut new = patched(call, kind, body, before)?;
        check_names(call, &new, before)?;
        let unknown = decode::conformed(call, &mut new).map_err(|e| invalid(call, &e.message))?;
        decode::report(call, unknown).map_err(|e| invalid(call, &e.message))?;
        Ok(new)
    };
    let value = super::replace(call, sub, dry_run, &mut make).await?;
    super::get::written(call, 200, value).await
}

/// A patched object that does not decode: upstream's 422 without kind or name.
fn invalid(call: &Call, text: &str) -> ApiError {
    let d = call.descriptor();
    let prefix = format!(
        "{0} in version \"{1}\" cannot be handled as a {0}: ",
        d.kind, d.version
    );
    let text = text.strip_prefix(&prefix).unwrap_or(text);
    let mut causes = machinery::Causes::new();
    causes.at("patch", |c| c.invalid(&Value::String(String::new()), text));
    ApiError::invalid("", "", "", causes.as_slice())
}

/// The patch types of the resource: custom ones have no strategic merge.
fn types(call: &Call) -> &'static [&'static str] {
    let all = if call.has_protobuf() {
        TYPES
    } else {
        CUSTOM_TYPES
    };
    let known = all.len() - usize::from(!call.server.serves_cbor());
    &all[..known]
}

/// Server-side apply: changes the object, or creates it where it is missing.
async fn apply(call: &Call, body: &Bytes, sub: &str, dry_run: bool) -> Result<Answer, ApiError> {
    let config = configuration(call, body)?;
    let force = call.query.flag("force");
    let namespace = call.info.namespace_of(call.descriptor());
    let cache = call.cache()?;
    // A newer write may just have made it: the cache must have seen everything.
    call.server.wait_fresh(cache, None).await?;
    if client::Cache::get(&**cache, &namespace, &call.info.name).is_some() {
        let mut make = |before: &Value| managed::apply(call, Some(before), &config, force, sub);
        let value = super::replace(call, sub, dry_run, &mut make).await?;
        return super::get::written(call, 200, value).await;
    }
    if !sub.is_empty() {
        return Err(call.not_found(&call.info.name));
    }
    if let Some(uid) = config.get("metadata").and_then(|m| m.get("uid")) {
        let d = call.descriptor();
        let uid = uid.as_str().unwrap_or("");
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(
            &d.group,
            &d.resource,
            &call.info.name,
            &why,
        ));
    }
    call.may_create().await?;
    let mut obj = managed::apply(call, None, &config, force, sub)?;
    machinery::object::remove(&mut obj, "metadata.resourceVersion");
    let (value, code) = super::create::new_object(call, obj, dry_run).await?;
    super::get::written(call, code, value).await
}

/// The applied configuration, named as the URL names it.
fn configuration(call: &Call, body: &Bytes) -> Result<Value, ApiError> {
    let d = call.descriptor();
    let bad = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    let (mut config, findings) = if call.content_type() == CBOR_APPLY {
        let config = api::cbor::decode(body).map_err(|e| bad(e.to_string()))?;
        (config, Vec::new())
    } else {
        let text = std::str::from_utf8(body).map_err(|e| bad(e.to_string()))?;
        decode::yaml(text).map_err(bad)?
    };
    if config.is_null() {
        config = serde_json::json!({});
    }
    if !config.is_object() {
        return Err(bad("the patch must be an object".into()));
    }
    let kind = machinery::object::str_at(&config, "kind");
    let version = machinery::object::str_at(&config, "apiVersion");
    let other_version = call.is_custom() && version != d.api_version();
    if kind != d.kind || other_version || version.split('/').count() > 2 {
        let group = if version.contains('/') { "" } else { "/" };
        return Err(ApiError::bad_request(format!(
            "invalid object type: {group}{version}, Kind={kind}"
        )));
    }
    check_own_name(&config, "metadata.name", &call.info.name)?;
    if d.namespaced() {
        check_own_name(&config, "metadata.namespace", &call.info.namespace)?;
    }
    let name = call.info.name.clone().into();
    machinery::object::set(&mut config, "metadata.name", name);
    strict(call, findings)?;
    Ok(config)
}

fn strict(call: &Call, findings: Vec<String>) -> Result<(), ApiError> {
    match call.validation() {
        Validation::Strict if !findings.is_empty() => Err(ApiError::bad_request(format!(
            "error strict decoding patch: {}",
            findings.join(", ")
        ))),
        Validation::Warn => {
            findings.into_iter().for_each(|f| call.warn(f));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn check_own_name(config: &Value, path: &str, url: &str) -> Result<(), ApiError> {
    let given = machinery::object::str_at(config, path);
    if given.is_empty() || given == url {
        return Ok(());
    }
    Err(ApiError::bad_request(if path.ends_with("namespace") {
        "the namespace of the provided object does not match the namespace sent on the request"
            .to_string()
    } else {
        format!("the name of the object ({given}) does not match the name on the URL ({url})")
    }))
}

/// An object with a patch of a media type applied.
pub fn patched(call: &Call, kind: &str, body: &Bytes, before: &Value) -> Result<Value, ApiError> {
    let d = call.descriptor();
    match kind {
        "application/json-patch+json" => machinery::patch::json_patch(before, body),
        "application/merge-patch+json" => machinery::patch::merge_patch(before, body),
        "application/strategic-merge-patch+json" => {
            machinery::patch::strategic(&d.group, &d.version, &d.kind, before, body)
        }
        _ => Err(ApiError::unsupported_media_type(types(call))),
    }
}

/// A patch may not turn an object into another.
fn check_names(call: &Call, new: &Value, before: &Value) -> Result<(), ApiError> {
    let d = call.descriptor();
    for (field, shown) in [("kind", "kind"), ("apiVersion", "apiVersion")] {
        if new.get(field) != before.get(field) {
            return Err(ApiError::bad_request(format!(
                "the {shown} of {} may not be changed by a patch",
                d.resource
            )));
        }
    }
    let name = machinery::object::str_at(new, "metadata.name");
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.info.name
        )));
    }
    if name != call.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    Ok(())
}
