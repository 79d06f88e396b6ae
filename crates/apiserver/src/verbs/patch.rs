//! PATCH. Upstream: apiserver handlers/patch.go; api-semantics §8.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use machinery::ApiError;
use serde_json::Value;

use crate::call::Call;
use crate::response::Answer;

/// The patch types, in upstream's order.
const TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Patches the object that the call names.
pub async fn patch(call: &Call, body: &Bytes, sub: &str) -> Result<Answer, ApiError> {
    let kind = call
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("");
    if !TYPES.contains(&kind) {
        return Err(ApiError::unsupported_media_type(TYPES));
    }
    let dry_run = call.dry_run()?;
    call.validation()?;
    let mut make = |before: &Value| {
        let new = patched(call, kind, body, before)?;
        check_names(call, &new, before)?;
        crate::decode::unknown_fields(call, &new)?;
        Ok(new)
    };
    let value = super::replace(call, sub, dry_run, &mut make).await?;
    super::get::object(call, 200, value)
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
        _ => Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!("patch type {kind} is not supported yet for {}", d.resource),
        )),
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
    if name != call.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    Ok(())
}
