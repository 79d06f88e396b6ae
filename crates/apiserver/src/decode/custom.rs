//! Bodies of custom resources: decoded by the kind and version that they say, and only then held against the endpoint's
//! version. What kind they are of validation judges. Upstream: schemaCoercingDecoder of
//! apiextensions-apiserver/pkg/apiserver/customresource_handler.go, and the create and update handlers.

use machinery::ApiError;
use machinery::causes::go_json;
use machinery::object::str_at;
use serde_json::{Value, json};

use super::{cannot_be_handled, conformed, other_version, summary, told, type_meta};
use crate::call::{Call, Validation};
use crate::negotiate::Media;

/// Makes a body conform, and tells of what strict decoding found.
pub fn decoded(
    call: &Call,
    value: &mut Value,
    findings: Vec<String>,
    (data, media): (&[u8], Media),
) -> Result<(), ApiError> {
    let d = call.descriptor();
    if str_at(value, "kind").is_empty() {
        return Err(without_kind(call, value, &findings, (data, media)));
    }
    let kind = str_at(value, "kind").to_string();
    let (group, version) = group_version(value);
    let wrong = |of: &str, why: String| {
        ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {of}: {why}"
        ))
    };
    let unknown = conformed(call, value).map_err(|why| wrong(&d.kind, why))?;
    let all = findings.into_iter().chain(unknown).collect();
    told(call, all).map_err(|why| match version.as_str() {
        "" => {
            let why = "Object 'apiVersion' is missing in 'object has no apiVersion field'";
            ApiError::bad_request(why)
        }
        // By now it is the body's kind that it should be handled as.
        _ => wrong(&kind, why),
    })?;
    if (&*group, &*version) != (&*d.group, &*d.version) {
        let given = match group.as_str() {
            "" => version,
            group => format!("{group}/{version}"),
        };
        return Err(other_version(&given, &d.api_version()));
    }
    Ok(())
}

fn group_version(value: &Value) -> (String, String) {
    let text = str_at(value, "apiVersion");
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    (group.into(), version.into())
}

/// Without strict decoding it is the endpoint's kind that lacks one, and the body is what was read.
fn without_kind(
    call: &Call,
    value: &Value,
    findings: &[String],
    (data, media): (&[u8], Media),
) -> ApiError {
    let d = call.descriptor();
    let lenient = call.validation() == Validation::Ignore;
    let body = match media {
        // Go's decoder hands a type that decodes itself the value alone, without the space around it.
        Media::Json if lenient => String::from_utf8_lossy(data.trim_ascii()).into_owned(),
        _ if !lenient => String::from_utf8_lossy(data).into_owned(),
        _ if data.iter().all(u8::is_ascii_whitespace) || *value == json!({}) => "null".into(),
        _ => go_json(value),
    };
    let missing = format!("Object 'Kind' is missing in '{body}'");
    if !lenient {
        let (of, head) = (&d.kind, summary(data));
        return ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {of}): {missing} ({head})"
        ));
    }
    let text = (media == Media::Json).then_some((data, findings));
    let said = type_meta(value, text).unwrap_or_default();
    let kind = match said.kind.as_str() {
        "" => &d.kind,
        kind => kind,
    };
    let (group, version) = said
        .api_version
        .split_once('/')
        .unwrap_or(("", &said.api_version));
    let version = match (group, version) {
        ("", "") => &d.version,
        (group, "") if group == d.group => &d.version,
        (_, version) => version,
    };
    match kind == &*d.kind {
        true => cannot_be_handled(kind, version, &missing),
        false => ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {missing}",
            d.kind
        )),
    }
}
