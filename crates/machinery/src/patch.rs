//! The patch types over a JSON value. Upstream: apiserver handlers/patch.go; api-semantics §8.

mod strategic;

use serde_json::{Map, Value};

use crate::error::ApiError;

pub use strategic::strategic;

/// Most operations of a JSON patch, as upstream's.
const JSON_PATCH_OPS: usize = 10_000;
/// Most bytes that the copy operations of one JSON patch may add, as upstream's JSONPatchMaxCopyBytes.
const COPIED_BYTES: usize = 3 << 20;

/// RFC 6902, as a client asks for it.
pub fn json_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let ops: Vec<Map<String, Value>> = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    let ops: Vec<Value> = ops.into_iter().map(as_read).collect();
    if ops.len() > JSON_PATCH_OPS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPS}, got {}",
            ops.len()
        )));
    }
    // Upstream answers with the generic text of the code; which operation failed, or is none at all, is
    // not told.
    let known = serde_json::from_value::<json_patch::Patch>(Value::Array(ops.clone()));
    let applied = known
        .map_err(|e| e.to_string())
        .and_then(|_| apply_operations(before, &ops));
    applied.map_err(|_| {
        let text = "the server rejected our request due to an error in our request";
        let mut e = ApiError::new(422, "Invalid", text);
        e.details = Some(Box::default());
        e
    })
}

/// An operation as upstream's library takes it: what stands before a path's first slash does not count, and a value
/// that is missing is null.
fn as_read(mut op: Map<String, Value>) -> Value {
    for name in ["path", "from"] {
        if let Some(Value::String(path)) = op.get_mut(name)
            && let Some(at) = path.find('/')
        {
            path.drain(..at);
        }
    }
    let kind = op.get("op").and_then(Value::as_str).unwrap_or("");
    if ["add", "replace"].contains(&kind) && !op.contains_key("value") && op.contains_key("path") {
        op.insert("value".into(), Value::Null);
    }
    Value::Object(op)
}

/// The operations of a JSON patch.
pub fn operations(patch: &[u8]) -> Result<Vec<Value>, String> {
    let ops: Vec<Value> = serde_json::from_slice(patch).map_err(|e| e.to_string())?;
    let known = serde_json::from_value::<json_patch::Patch>(Value::Array(ops.clone()));
    known.map_err(|e| e.to_string())?;
    Ok(ops)
}

/// Applies the operations of a JSON patch, one after the other. The error is upstream's text
/// (evanphx/json-patch), which says which one failed.
pub fn apply_operations(before: &Value, ops: &[Value]) -> Result<Value, String> {
    let mut after = before.clone();
    let mut copied = 0;
    for op in ops {
        let kind = crate::object::str_at(op, "op");
        let path = crate::object::str_at(op, "path");
        if kind == "add" && path.is_empty() {
            return Err(
                "add operation does not apply: doc is missing path: \"\": missing value".into(),
            );
        }
        // Upstream's library replaces a field that an object does not have.
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let in_object = parent
            .and_then(|p| after.pointer(p))
            .is_some_and(Value::is_object);
        let added;
        let op = if kind == "replace" && in_object && after.pointer(path).is_none() {
            let mut other = op.clone();
            other["op"] = "add".into();
            added = other;
            &added
        } else {
            op
        };
        if kind == "copy" {
            let from = crate::object::str_at(op, "from");
            copied += after.pointer(from).map_or(0, |v| v.to_string().len());
            if copied > COPIED_BYTES {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_BYTES}"
                ));
            }
        }
        let one = serde_json::from_value::<json_patch::PatchOperation>(op.clone());
        let one = one.map_err(|e| e.to_string())?;
        json_patch::patch(&mut after, &[one]).map_err(|_| match kind {
            "test" => format!("testing value {path} failed: test failed"),
            kind => format!(
                "{kind} operation does not apply: doc is missing path: \"{path}\": missing value"
            ),
        })?;
    }
    Ok(after)
}

/// RFC 7386.
pub fn merge_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if patch.is_array() {
        return Ok(patch);
    }
    if !patch.is_object() {
        return Err(ApiError::bad_request("Invalid JSON Patch"));
    }
    let mut after = before.clone();
    json_patch::merge(&mut after, &patch);
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_apply_or_say_why_not() {
        let before = json!({"a": {"b": 1, "c": [1, 2]}});
        let after = json_patch(&before, br#"[{"op":"replace","path":"/a/b","value":2}]"#);
        assert_eq!(after.expect("applies"), json!({"a": {"b": 2, "c": [1, 2]}}));
        assert_eq!(json_patch(&before, b"{}").expect_err("no list").code, 400);
        let missing = json_patch(&before, br#"[{"op":"remove","path":"/x"}]"#);
        assert_eq!(missing.expect_err("no such path").code, 422);
        let test = json_patch(&before, br#"[{"op":"test","path":"/a/b","value":9}]"#);
        assert_eq!(test.expect_err("the test fails").code, 422);
        let mut bomb = vec![json!({"op": "add", "path": "/0", "value": {"x": "y".repeat(1_000)}})];
        bomb.extend((0..40).map(|i| json!({"op": "copy", "from": "", "path": format!("/c{i}")})));
        let e = apply_operations(&json!({}), &bomb).expect_err("too much");
        assert!(e.starts_with("Unable to complete the copy"), "{e}");
        let after = merge_patch(&before, br#"{"a":{"b":null,"d":"x"}}"#).expect("applies");
        assert_eq!(after, json!({"a": {"c": [1, 2], "d": "x"}}));
        assert_eq!(merge_patch(&before, b"5").expect_err("no object").code, 400);
    }
}
