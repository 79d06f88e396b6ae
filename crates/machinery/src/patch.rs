//! The patch types over a JSON value. Upstream: apiserver handlers/patch.go; api-semantics §8.

mod strategic;

use serde_json::Value;

use crate::error::ApiError;

pub use strategic::strategic;

/// Most operations of a JSON patch, as upstream's.
const JSON_PATCH_OPS: usize = 10_000;

/// RFC 6902.
pub fn json_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let ops: Vec<Value> = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if ops.len() > JSON_PATCH_OPS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPS}, got {}",
            ops.len()
        )));
    }
    let ops: json_patch::Patch = serde_json::from_value(Value::Array(ops))
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    let mut after = before.clone();
    // Upstream answers with the generic text of the code; which operation failed is not told.
    json_patch::patch(&mut after, &ops).map_err(|_| {
        let text = "the server rejected our request due to an error in our request";
        let mut e = ApiError::new(422, "Invalid", text);
        e.details = Some(Box::default());
        e
    })?;
    Ok(after)
}

/// RFC 7386.
pub fn merge_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
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
        let after = merge_patch(&before, br#"{"a":{"b":null,"d":"x"}}"#).expect("applies");
        assert_eq!(after, json!({"a": {"c": [1, 2], "d": "x"}}));
        assert_eq!(merge_patch(&before, b"5").expect_err("no object").code, 400);
    }
}
