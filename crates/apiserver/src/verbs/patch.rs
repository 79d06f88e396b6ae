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

/// 415 where a patch is of another type than those of the resource. In front of built-in kinds a router says so.
pub fn check_type(call: &Call) -> Result<(), ApiError> {
    let types = types(call);
    match types.contains(&call.content_type()) {
        true => Ok(()),
        false => Err(ApiError::unsupported_media_type(types)),
    }
}

/// Patches the object that the call names.
pub async fn patch(call: &Call, body: &Bytes, sub: &str) -> Result<Answer, ApiError> {
    let kind = call.content_type();
    let dry_run = call.write_options()?;
    if call.applies() {
        return apply(call, body, sub, dry_run).await;
    }
    let twice = findings(call, kind, body)?;
    let mut make = |before: &Value| {
        let mut new = patched(call, kind, body, before)?;
        let shown = || {
            let shown = match kind {
                "application/json-patch+json" => machinery::patch::json_patch_shown(before, body),
                "application/merge-patch+json" => machinery::patch::merge_patch_shown(before, body),
                _ => None,
            };
            shown.unwrap_or_default()
        };
        let refused = |why: String| invalid(&shown(), &why);
        if !new.is_object() {
            return Err(refused(decode::not_an_object(&new)));
        }
        if call.is_custom() {
            decode::type_meta(&new, None).map_err(refused)?;
            if machinery::object::str_at(&new, "kind").is_empty() {
                return Err(refused(format!(
                    "Object 'Kind' is missing in '{}'",
                    shown()
                )));
            }
        } else {
            check_names(call, &new, before)?;
        }
        let mut findings = twice.clone();
        findings.extend(decode::conformed(call, &mut new).map_err(refused)?);
        decode::told(call, findings).map_err(refused)?;
        if call.is_custom() {
            super::check_names(call, &new)?;
        }
        Ok(new)
    };
    let value = super::replace(call, sub, dry_run, &mut make).await?;
    super::get::written(call, 200, value).await
}

/// What strict decoding says of a patch itself, or why it is none.
fn findings(call: &Call, kind: &str, body: &Bytes) -> Result<Vec<String>, ApiError> {
    let lenient = call.validation() == Validation::Ignore;
    let bad = |value: &Value, strict: &str, plain: &str| {
        let what = decode::go_kind(value);
        ApiError::bad_request(match lenient {
            false => format!(
                "error decoding patch: json: cannot unmarshal {what} into Go value of type {strict}"
            ),
            true => format!("json: cannot unmarshal {what} into Go value of type {plain}"),
        })
    };
    let parsed = machinery::conform::parse(body, None);
    let (value, found) = parsed.map_err(|_| ApiError::bad_request("invalid JSON patch"))?;
    match kind {
        "application/merge-patch+json" => match value {
            Value::Object(_) => Ok(if lenient { Vec::new() } else { found }),
            // Upstream's library makes the list the object.
            Value::Array(_) if lenient => Ok(Vec::new()),
            Value::Null => Err(ApiError::bad_request("Invalid JSON Patch")),
            _ if lenient => Err(ApiError::bad_request("Invalid JSON Patch")),
            other => Err(bad(&other, "map[string]interface {}", "")),
        },
        "application/json-patch+json" => {
            let ops = match &value {
                Value::Array(ops) => &ops[..],
                // To Go a list of nothing.
                Value::Null => return Ok(Vec::new()),
                _ => return Err(bad(&value, "[]handlers.jsonPatchOp", "jsonpatch.Patch")),
            };
            if let Some(odd) = ops.iter().find(|op| !op.is_object() && !op.is_null()) {
                return Err(bad(odd, "handlers.jsonPatchOp", "jsonpatch.Operation"));
            }
            if lenient {
                return Ok(Vec::new());
            }
            operations(ops, found)
        }
        _ => Ok(Vec::new()),
    }
}

/// What strict decoding says of the operations of a JSON patch.
fn operations(ops: &[Value], found: Vec<String>) -> Result<Vec<String>, ApiError> {
    let mut out: Vec<String> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        for (name, v) in op.as_object().into_iter().flatten() {
            match name.as_str() {
                "op" | "from" | "path" if !v.is_string() && !v.is_null() => {
                    let what = decode::go_kind(v);
                    return Err(ApiError::bad_request(format!(
                        "error decoding patch: json: cannot unmarshal {what} into Go struct field jsonPatchOp.{name} of type string"
                    )));
                }
                "op" | "from" | "path" | "value" => {}
                _ => out.push(format!("json patch unknown field \"[{i}].{name}\"")),
            }
        }
    }
    // Of values nothing is told.
    let own = |f: &String| f.matches('.').count() == 1;
    out.extend(
        found
            .into_iter()
            .filter(own)
            .map(|f| format!("json patch {f}")),
    );
    Ok(out)
}

/// A patched object that does not decode: upstream's 422 without kind or name.
fn invalid(shown: &str, why: &str) -> ApiError {
    let mut causes = machinery::Causes::new();
    causes.at("patch", |c| c.invalid(&Value::String(shown.into()), why));
    ApiError::invalid("", "", "", causes.as_slice())
}

/// The patch types of the resource: custom ones have no strategic merge.
pub fn types(call: &Call) -> &'static [&'static str] {
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
    let (config, findings) = configuration(call, body)?;
    let force = call.query.flag("force");
    let namespace = call.info.namespace_of(call.descriptor());
    let cache = call.cache()?;
    // A newer write may just have made it: the cache must have seen everything.
    call.server.wait_fresh(cache, None).await?;
    if client::Cache::get(&**cache, &namespace, &call.info.name).is_some() {
        let mut make = |before: &Value| {
            let new = managed::apply(call, Some(before), &config, force, sub)?;
            strict(call, &findings)?;
            super::check_names(call, &new)?;
            Ok(new)
        };
        let value = super::replace(call, sub, dry_run, &mut make).await?;
        return super::get::written(call, 200, value).await;
    }
    if !sub.is_empty() {
        return Err(call.not_found(&call.info.name));
    }
    call.may_create().await?;
    let mut obj = managed::apply(call, None, &config, force, sub)?;
    strict(call, &findings)?;
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
    super::check_names(call, &obj)?;
    let version = machinery::object::remove(&mut obj, "metadata.resourceVersion");
    let (mut value, code) = super::create::new_object(call, obj, dry_run).await?;
    if let Some(version) = version.filter(|_| dry_run) {
        machinery::object::set(&mut value, "metadata.resourceVersion", version);
    }
    super::get::written(call, code, value).await
}

/// The applied configuration, and what strict decoding says of it.
fn configuration(call: &Call, body: &Bytes) -> Result<(Value, Vec<String>), ApiError> {
    let d = call.descriptor();
    let bad = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    let (mut config, findings) = if call.content_type() == CBOR_APPLY {
        let config = api::cbor::decode(body).map_err(|e| bad(e.to_string()))?;
        (config, Vec::new())
    } else {
        decode::yaml(body).map_err(|why| unread(body, &why))?
    };
    if config.is_null() {
        config = serde_json::json!({});
    }
    if !config.is_object() {
        return Err(bad(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            decode::go_kind(&config)
        )));
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
    Ok((config, findings))
}

/// 400 of an applied configuration that is no YAML. What looks like JSON upstream's audit takes as it is.
pub fn unread(body: &[u8], why: &str) -> ApiError {
    ApiError::bad_request(match body.trim_ascii_start().first() {
        Some(b'{') => {
            format!("error decoding patch: error converting YAML to JSON: {why}")
        }
        _ => format!("error encoding patch: {why}"),
    })
}

fn strict(call: &Call, findings: &[String]) -> Result<(), ApiError> {
    match call.validation() {
        Validation::Strict if !findings.is_empty() => Err(ApiError::bad_request(format!(
            "error strict decoding patch: error converting YAML to JSON: {}",
            decode::strict_text(findings)
        ))),
        Validation::Warn => {
            findings.iter().for_each(|f| call.warn(f.clone()));
            Ok(())
        }
        _ => Ok(()),
    }
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
