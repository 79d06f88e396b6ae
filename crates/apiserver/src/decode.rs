//! Request bodies to JSON values. The schema's part (types, unknown fields) is in `machinery`.

use bytes::Bytes;
use machinery::ApiError;
use serde_json::Value;

use crate::call::{Call, Validation};
use crate::negotiate::Media;

/// Decodes a body that must be an object. `kind` names the endpoint's kind in errors.
pub fn object(data: &Bytes, media: Media, kind: &str) -> Result<Value, ApiError> {
    let unrecognized = |why: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(data)
        ))
    };
    let value: Value = match media {
        Media::Json => serde_json::from_slice(data).map_err(|e| {
            unrecognized(&format!("couldn't get version/kind; json parse error: {e}"))
        })?,
        Media::Yaml => {
            let text = std::str::from_utf8(data).map_err(|e| unrecognized(&e.to_string()))?;
            serde_saphyr::from_str(text)
                .map_err(|e| unrecognized(&format!("error converting YAML to JSON: {e}")))?
        }
        Media::Protobuf => {
            return Err(ApiError::unsupported_media_type(&[
                Media::Json.text(),
                Media::Yaml.text(),
            ]));
        }
    };
    if value.is_object() {
        Ok(value)
    } else {
        let what = match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "null",
        };
        Err(unrecognized(&format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )))
    }
}

/// Upstream's short form of a body for errors.
fn summary(data: &[u8]) -> String {
    if data.is_empty() {
        return "<empty>".into();
    }
    let cut = if data.len() > 30 { " ..." } else { "" };
    let head = &data[..data.len().min(30)];
    if data[0] == b'{' {
        format!("{}{cut}", String::from_utf8_lossy(head))
    } else {
        let hex: String = head.iter().map(|b| format!("{b:02x}")).collect();
        format!("{hex}{cut}")
    }
}

/// Makes sure that an object is of the endpoint's kind and version; fills both in where absent.
pub fn check_kind(value: &mut Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let given_kind = value.get("kind").and_then(Value::as_str).unwrap_or("");
    let given_version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or("");
    if !given_kind.is_empty() && given_kind != kind {
        let version = given_version.rsplit('/').next().unwrap_or("");
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version \"{version}\" cannot be handled as a {kind}: no kind \"{given_kind}\" is registered for version \"{given_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )));
    }
    if !given_version.is_empty() && given_version != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        )));
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
        match map.get("metadata") {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => {
                map.insert("metadata".into(), Value::Object(serde_json::Map::new()));
            }
            Some(_) => {
                return Err(ApiError::bad_request(format!(
                    "{kind} in version \"{}\" cannot be handled as a {kind}: json: cannot unmarshal into Go struct field {kind}.metadata of type v1.ObjectMeta",
                    api_version.rsplit('/').next().unwrap_or("")
                )));
            }
        }
    }
    Ok(())
}

/// Tells about fields that a custom resource's schema does not know, as fieldValidation asks.
pub fn unknown_fields(call: &Call, obj: &Value) -> Result<(), ApiError> {
    let validation = call.validation()?;
    if validation == Validation::Ignore {
        return Ok(());
    }
    let unknown = call.descriptor().strategy.unknown_fields(obj);
    let texts: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    if validation == Validation::Strict {
        let d = call.descriptor();
        return Err(ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            d.kind,
            d.version,
            d.kind,
            texts.join(", ")
        )));
    }
    texts.into_iter().for_each(|t| call.warn(t));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_no_objects_are_errors() {
        for text in [
            "",
            "{",
            "[]",
            "5",
            "null",
            "\"x\"",
            "{\"a\":}",
            "\u{0}\u{1}",
        ] {
            let e = object(&Bytes::from(text), Media::Json, "Pod").unwrap_err();
            assert_eq!(e.code, 400, "{text}");
            assert!(
                e.message
                    .starts_with("the object provided is unrecognized (must be of type Pod)")
            );
        }
        assert!(object(&Bytes::from("a: [1"), Media::Yaml, "Pod").is_err());
        let deep = "[".repeat(100_000);
        assert!(object(&Bytes::from(deep), Media::Json, "Pod").is_err());
    }

    #[test]
    fn another_kind_is_refused() {
        let mut v = serde_json::json!({"kind": "Pod", "apiVersion": "v1"});
        let e = check_kind(&mut v, "apps/v1", "Deployment").unwrap_err();
        assert!(
            e.message
                .starts_with("Pod in version \"v1\" cannot be handled as a Deployment")
        );
        let mut v = serde_json::json!({"kind": "Pod", "apiVersion": "v2"});
        let e = check_kind(&mut v, "v1", "Pod").unwrap_err();
        assert_eq!(
            e.message,
            "the API version in the data (v2) does not match the expected API version (v1)"
        );
    }
}
