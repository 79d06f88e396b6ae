//! The patch types over a JSON value. Upstream: apiserver handlers/patch.go; api-semantics §8.

mod json;
mod shown;
mod strategic;

use serde_json::Value;

use crate::conform;
use crate::error::ApiError;

pub use json::apply_operations;
pub use shown::{json_patch_shown, merge_patch_shown};
pub use strategic::strategic;

/// Most operations of a JSON patch, as upstream's.
const JSON_PATCH_OPS: usize = 10_000;

/// RFC 6902, as a client asks for it.
pub fn json_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let ops = operations(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if ops.len() > JSON_PATCH_OPS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPS}, got {}",
            ops.len()
        )));
    }
    // Upstream answers with the generic text of the code; which operation failed, or is none at all, is
    // not told.
    apply_operations(before, &ops).map_err(|_| {
        let text = "the server rejected our request due to an error in our request";
        let mut e = ApiError::new(422, "Invalid", text);
        e.details = Some(Box::default());
        e
    })
}

/// The operations of a JSON patch.
pub fn operations(patch: &[u8]) -> Result<Vec<Value>, String> {
    let (value, _) = conform::parse(patch, None)?;
    let ops = match value {
        Value::Array(ops) => ops,
        // To Go a list of nothing.
        Value::Null => Vec::new(),
        _ => return Err("a JSON patch is a list of operations".into()),
    };
    match ops.iter().all(|op| op.is_object() || op.is_null()) {
        true => Ok(ops),
        false => Err("an operation of a JSON patch is an object".into()),
    }
}

/// RFC 7386.
pub fn merge_patch(before: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let (patch, _) = conform::parse(patch, None)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if patch.is_array() {
        return Ok(patch);
    }
    let Value::Object(patch) = patch else {
        return Err(ApiError::bad_request("Invalid JSON Patch"));
    };
    let mut after = before.clone();
    if let Value::Object(map) = &mut after {
        json::merge(map, patch);
    }
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
        assert_eq!(json_patch(&before, b"null").expect("nothing"), before);
        let missing = json_patch(&before, br#"[{"op":"remove","path":"/x"}]"#);
        assert_eq!(missing.expect_err("no such path").code, 422);
        let test = json_patch(&before, br#"[{"op":"test","path":"/a/b","value":9}]"#);
        assert_eq!(test.expect_err("the test fails").code, 422);
        let mut bomb =
            vec![json!({"op": "add", "path": "/0", "value": {"x": "y".repeat(100_000)}})];
        bomb.extend((0..40).map(|i| json!({"op": "copy", "from": "/0", "path": format!("/c{i}")})));
        let e = apply_operations(&json!({}), &bomb).expect_err("too much");
        assert!(e.starts_with("Unable to complete the copy"), "{e}");
        let after = merge_patch(&before, br#"{"a":{"b":null,"d":"x"}}"#).expect("applies");
        assert_eq!(after, json!({"a": {"c": [1, 2], "d": "x"}}));
        assert_eq!(merge_patch(&before, b"5").expect_err("no object").code, 400);
    }
}
