//! Strategic merge patch: lists merge by key where the type says so.
//! Upstream: apimachinery/pkg/util/strategicpatch; api-semantics §8.3.

use api::schema::{self, Schema};
use serde_json::{Map, Value};

use crate::error::ApiError;

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PRIMITIVE: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of a built-in kind.
pub fn strategic(
    group: &str,
    version: &str,
    kind: &str,
    before: &Value,
    patch: &[u8],
) -> Result<Value, ApiError> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    let Some(schema) = schema::lookup(group, version, kind) else {
        return Err(ApiError::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ]));
    };
    let (Value::Object(patch), Value::Object(before)) = (patch, before) else {
        return Err(ApiError::bad_request(
            "error decoding patch: the patch must be an object",
        ));
    };
    merge_map(before.clone(), patch, schema).map(Value::Object)
}

fn invalid(text: impl Into<String>) -> ApiError {
    ApiError::bad_request(text)
}

type Fields = Map<String, Value>;

fn merge_map(mut base: Fields, mut patch: Fields, schema: &Schema) -> Result<Fields, ApiError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(d) if d == "replace" => return Ok(patch),
        Some(d) if d == "delete" => return Ok(Fields::new()),
        Some(d) if d == "merge" => {}
        Some(d) => return Err(invalid(format!("unrecognized type: {d}"))),
    }
    if let Some(keep) = patch.remove(RETAIN) {
        let keep = keep
            .as_array()
            .ok_or_else(|| invalid("invalid $retainKeys list"))?
            .clone();
        base.retain(|k, _| keep.iter().any(|v| v == k));
    }
    let orders: Vec<(String, Value, Vec<Value>)> = take_prefixed(&mut patch, ORDER)
        .into_iter()
        .map(|(field, order)| {
            let before = base.get(&field).and_then(Value::as_array).cloned();
            (field, order, before.unwrap_or_default())
        })
        .collect();
    for (field, gone) in take_prefixed(&mut patch, DELETE_PRIMITIVE) {
        let gone = gone
            .as_array()
            .ok_or_else(|| invalid("invalid $deleteFromPrimitiveList"))?
            .clone();
        if let Some(Value::Array(list)) = base.get_mut(&field) {
            list.retain(|v| !gone.contains(v));
        }
    }
    for (key, value) in patch {
        if value.is_null() {
            base.remove(&key);
            continue;
        }
        let below = schema.field(&key);
        let merged = match (base.remove(&key), value) {
            (Some(Value::Object(b)), Value::Object(p)) => {
                Value::Object(merge_map(b, p, below.unwrap_or(Schema::any()))?)
            }
            (None, Value::Object(p)) => {
                Value::Object(merge_map(Fields::new(), p, below.unwrap_or(Schema::any()))?)
            }
            (old, Value::Array(p)) => {
                let old = match old {
                    Some(Value::Array(b)) => b,
                    _ => Vec::new(),
                };
                Value::Array(merge_list(old, p, below)?)
            }
            (_, value) => value,
        };
        base.insert(key, merged);
    }
    for (field, order, before) in orders {
        let below = schema.field(&field);
        if let (Some(Value::Array(list)), Some(order)) = (base.get_mut(&field), order.as_array()) {
            let key = below.and_then(Schema::patch_merge_key);
            arrange(list, order, &before, key);
        }
    }
    Ok(base)
}

fn take_prefixed(patch: &mut Fields, prefix: &str) -> Vec<(String, Value)> {
    let names: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(prefix))
        .cloned()
        .collect();
    names
        .into_iter()
        .filter_map(|k| {
            let value = patch.remove(&k)?;
            Some((k[prefix.len()..].to_string(), value))
        })
        .collect()
}

fn merge_list(
    base: Vec<Value>,
    patch: Vec<Value>,
    schema: Option<&Schema>,
) -> Result<Vec<Value>, ApiError> {
    let Some(schema) = schema.filter(|s| s.patch_merges()) else {
        return Ok(patch
            .into_iter()
            .filter(|v| v.get(DIRECTIVE).is_none())
            .collect());
    };
    let Some(key) = schema.patch_merge_key() else {
        let mut out = base.clone();
        for v in &patch {
            if !out.contains(v) {
                out.push(v.clone());
            }
        }
        arrange(&mut out, &patch, &base, None);
        return Ok(out);
    };
    let item = schema.items().unwrap_or(Schema::any());
    let replace = patch
        .iter()
        .any(|v| v.get(DIRECTIVE).is_some_and(|d| d == "replace"));
    let mut out = if replace { Vec::new() } else { base };
    let (before, order) = (out.clone(), patch.clone());
    for v in patch {
        let Value::Object(mut fields) = v else {
            return Err(invalid(format!(
                "expected map of objects in the list merged by {key}"
            )));
        };
        let directive = fields.get(DIRECTIVE).cloned();
        if directive.as_ref().is_some_and(|d| d == "replace") {
            continue;
        }
        let id = fields.get(key).cloned().ok_or_else(|| {
            invalid(format!(
                "map: {} does not contain declared merge key: {key}",
                Value::Object(fields.clone())
            ))
        })?;
        let at = out.iter().position(|o| o.get(key) == Some(&id));
        if directive.as_ref().is_some_and(|d| d == "delete") {
            out.retain(|o| o.get(key) != Some(&id));
            continue;
        }
        if directive.as_ref().is_some_and(|d| d == "merge") {
            fields.remove(DIRECTIVE);
        }
        match at {
            Some(i) => {
                if let Value::Object(old) = out[i].take() {
                    out[i] = Value::Object(merge_map(old, fields, item)?);
                }
            }
            None => out.push(Value::Object(merge_map(Fields::new(), fields, item)?)),
        }
    }
    arrange(&mut out, &order, &before, Some(key));
    Ok(out)
}

/// Orders a merged list: what the order names comes in that order. What only the server has keeps its order,
/// and stands before a named item only where it stood before it on the server; so new items come first.
fn arrange(list: &mut Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) {
    let place = |all: &[Value], v: &Value| {
        all.iter().position(|o| match key {
            Some(k) => o.get(k).is_some() && o.get(k) == v.get(k),
            None => o == v,
        })
    };
    let (mut named, others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|v| place(order, v).is_some());
    named.sort_by_key(|v| place(order, v));
    let mut others = others.into_iter().peekable();
    for v in named {
        let there = place(before, &v);
        let stood_first = |o: &Value| match (place(before, o), there) {
            (Some(other), Some(this)) => other < this,
            _ => false,
        };
        while let Some(other) = others.next_if(stood_first) {
            list.push(other);
        }
        list.push(v);
    }
    list.extend(others);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(before: Value, patch: Value) -> Value {
        strategic("", "v1", "Pod", &before, patch.to_string().as_bytes()).expect("applies")
    }

    #[test]
    fn lists_merge_by_their_keys() {
        let before = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
        let after = apply(
            before.clone(),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}}),
        );
        assert_eq!(
            after["spec"]["containers"],
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}])
        );
        let after = apply(
            before.clone(),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        );
        assert_eq!(
            after["spec"]["containers"],
            json!([{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
            "what the server does not know comes first"
        );
        let after = apply(
            before.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
        );
        assert_eq!(
            after["spec"]["containers"],
            json!([{"name": "b", "image": "1"}])
        );
        let after = apply(
            before,
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "3"}]}}),
        );
        assert_eq!(
            after["spec"]["containers"],
            json!([{"name": "b", "image": "1"}, {"name": "a", "image": "3"}])
        );
    }

    #[test]
    fn maps_primitives_and_directives() {
        let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x/y", "z/w"]},
            "spec": {"tolerations": [{"key": "k"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
        let after = apply(
            before.clone(),
            json!({"metadata": {"labels": {"a": null},
            "$deleteFromPrimitiveList/finalizers": ["x/y"], "finalizers": ["q/r"]}}),
        );
        assert_eq!(
            after["metadata"],
            json!({"labels": {"b": "2"}, "finalizers": ["q/r", "z/w"]})
        );
        // Tolerations have no merge key: the list is replaced.
        let after = apply(
            before.clone(),
            json!({"spec": {"tolerations": [{"key": "n"}]}}),
        );
        assert_eq!(after["spec"]["tolerations"], json!([{"key": "n"}]));
        let after = apply(
            before,
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"],
            "hostPath": {"path": "/x"}}]}}),
        );
        assert_eq!(
            after["spec"]["volumes"],
            json!([{"name": "v", "hostPath": {"path": "/x"}}])
        );
    }
}
