//! JSON patches and merge patches as upstream's library applies them, which is laxer than the RFCs.
//! Upstream: gopkg.in/evanphx/json-patch.v4.

use serde_json::{Map, Value};

use crate::causes::go_quote;

/// Most bytes that the copy operations of one JSON patch may add, as upstream's JSONPatchMaxCopyBytes.
const COPIED_BYTES: usize = 3 << 20;

/// Applies the operations of a JSON patch, one after the other. The error is upstream's text, which says
/// which one failed.
pub fn apply_operations(before: &Value, ops: &[Value]) -> Result<Value, String> {
    let mut after = before.clone();
    let mut copied = 0;
    for op in ops {
        let kind = op.get("op").and_then(Value::as_str).unwrap_or("unknown");
        match kind {
            "add" => add(&mut after, op)?,
            "remove" => remove(&mut after, op)?,
            "replace" => replace(&mut after, op)?,
            "move" => move_value(&mut after, op)?,
            "test" => test(&after, op)?,
            "copy" => copy(&mut after, op, &mut copied)?,
            other => return Err(format!("Unexpected kind: {other}")),
        }
    }
    Ok(after)
}

fn text<'a>(op: &'a Value, field: &str, kind: &str) -> Result<&'a str, String> {
    let missing = || format!("{kind} operation failed to decode {field}: missing value");
    op.get(field).and_then(Value::as_str).ok_or_else(missing)
}

/// The steps of a pointer; nothing where it has none.
fn steps(path: &str) -> Option<(Vec<String>, String)> {
    let mut parts: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|p| p.replace("~1", "/").replace("~0", "~"))
        .collect();
    let key = parts.pop()?;
    Some((parts, key))
}

/// The place of an item; those before 0 count from the end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let bad = |i: i64| format!("Unable to access invalid index: {i}: invalid index referenced");
    let i: i64 = key
        .parse()
        .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", go_quote(key)))?;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let at = if i < 0 { i + length } else { i };
    usize::try_from(at)
        .ok()
        .filter(|_| at < length)
        .ok_or_else(|| bad(i))
}

/// What a step leads to: `None` for a field that is missing.
fn get<'a>(container: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match container {
        Value::Object(map) => Ok(map.get(key)),
        Value::Array(list) => index(key, list.len()).map(|i| list.get(i)),
        _ => Err(String::new()),
    }
}

/// The object or list that holds what a path names, and the last step to it.
fn found<'a>(doc: &'a Value, path: &str) -> Option<(&'a Value, String)> {
    let (parts, key) = steps(path)?;
    let mut at = doc;
    for part in &parts {
        at = get(at, part).ok()??;
    }
    (at.is_object() || at.is_array()).then_some((at, key))
}

fn found_mut<'a>(doc: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parts, key) = steps(path)?;
    let mut at = doc;
    for part in &parts {
        at = match at {
            Value::Object(map) => map.get_mut(part)?,
            Value::Array(list) => {
                let i = index(part, list.len()).ok()?;
                list.get_mut(i)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then_some((at, key))
}

fn insert(doc: &mut Value, kind: &str, what: &str, path: &str, v: Value) -> Result<(), String> {
    let missing = format!(
        "{kind} operation does not apply: doc is missing {what}: {}: missing value",
        if kind == "add" {
            go_quote(path)
        } else {
            path.to_string()
        }
    );
    let (container, key) = found_mut(doc, path).ok_or(missing)?;
    let failed = |e: String| match kind {
        "copy" => format!("error while adding value during copy: {e}"),
        kind => format!("error in {kind} for path: '{path}': {e}"),
    };
    match container {
        Value::Object(map) => {
            map.insert(key, v);
        }
        Value::Array(list) if key == "-" => list.push(v),
        Value::Array(list) => {
            let i = index(&key, list.len() + 1).map_err(failed)?;
            list.insert(i, v);
        }
        _ => {}
    }
    Ok(())
}

/// Takes a value out. The error says why there is none.
fn take(container: &mut Value, key: &str) -> Result<Value, String> {
    match container {
        Value::Object(map) => map
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(list) => index(key, list.len()).map(|i| list.remove(i)),
        _ => Err(String::new()),
    }
}

fn value(op: &Value) -> Value {
    op.get("value").cloned().unwrap_or_default()
}

fn add(doc: &mut Value, op: &Value) -> Result<(), String> {
    insert(doc, "add", "path", text(op, "path", "add")?, value(op))
}

fn remove(doc: &mut Value, op: &Value) -> Result<(), String> {
    let path = text(op, "path", "remove")?;
    let (container, key) = found_mut(doc, path).ok_or_else(|| {
        let path = go_quote(path);
        format!("remove operation does not apply: doc is missing path: {path}: missing value")
    })?;
    take(container, &key)
        .map(|_| ())
        .map_err(|e| format!("error in remove for path: '{path}': {e}"))
}

fn replace(doc: &mut Value, op: &Value) -> Result<(), String> {
    let path = text(op, "path", "replace")?;
    let new = value(op);
    if path.is_empty() {
        if !new.is_object() && !new.is_array() {
            return Err("replace operation value must be object or array".into());
        }
        *doc = new;
        return Ok(());
    }
    let missing = |what: &str| {
        format!("replace operation does not apply: doc is missing {what}: {path}: missing value")
    };
    let (container, key) = found_mut(doc, path).ok_or_else(|| missing("path"))?;
    match container {
        // What an object does not have is added.
        Value::Object(map) => {
            map.insert(key, new);
        }
        Value::Array(list) => {
            let i = index(&key, list.len()).map_err(|_| missing("key"))?;
            list[i] = new;
        }
        _ => {}
    }
    Ok(())
}

fn move_value(doc: &mut Value, op: &Value) -> Result<(), String> {
    let from = text(op, "from", "move")?;
    let (container, key) = found_mut(doc, from).ok_or_else(|| {
        format!("move operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let v = take(container, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
    let path = text(op, "path", "move")?;
    insert(doc, "move", "destination path", path, v)
}

fn copy(doc: &mut Value, op: &Value, copied: &mut usize) -> Result<(), String> {
    let from = text(op, "from", "copy")?;
    let (container, key) = found(doc, from).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let v = get(container, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
    // A field that is missing is copied as null.
    let v = v.cloned().unwrap_or_default();
    let path = text(op, "path", "copy")?;
    if !v.is_null() {
        *copied += v.to_string().len();
    }
    if *copied > COPIED_BYTES {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_BYTES}"
        ));
    }
    insert(doc, "copy", "destination path", path, v)
}

fn test(doc: &Value, op: &Value) -> Result<(), String> {
    let path = text(op, "path", "test")?;
    let wanted = op.get("value").filter(|v| !v.is_null());
    let is = if path.is_empty() {
        Some(doc)
    } else {
        let (container, key) = found(doc, path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        get(container, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?
    };
    if is.filter(|v| !v.is_null()) == wanted {
        return Ok(());
    }
    Err(format!("testing value {path} failed: test failed"))
}

// === Merge patches ===

/// RFC 7386, but nulls are also taken out of objects within lists where a value is new as a whole.
pub fn merge(doc: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, v) in patch {
        if v.is_null() {
            doc.remove(&name);
            continue;
        }
        match (doc.get_mut(&name), v) {
            (Some(Value::Object(below)), Value::Object(more)) => merge(below, more),
            (Some(Value::Object(_)), whole) => {
                doc.insert(name, whole);
            }
            (_, mut new) => {
                without_nulls(&mut new);
                doc.insert(name, new);
            }
        }
    }
}

/// Takes the fields of nulls out of objects, those within lists too.
pub fn without_nulls(v: &mut Value) {
    match v {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(ops: Value) -> Result<Value, String> {
        let before = json!({"a": {"b": "1", "l": [1, 2], "n": null}, "m~/": 1});
        apply_operations(&before, ops.as_array().expect("a list"))
    }

    #[test]
    fn operations_do_what_upstreams_library_does() {
        let a = |v: Value| Ok(json!({"a": v, "m~/": 1}));
        for (ops, expected) in [
            (
                json!([{"op": "copy", "from": "/a/none", "path": "/a/x"}]),
                a(json!({"b": "1", "l": [1, 2], "n": null, "x": null})),
            ),
            (
                json!([{"op": "replace", "path": "/a/x", "value": 1}]),
                a(json!({"b": "1", "l": [1, 2], "n": null, "x": 1})),
            ),
            (
                json!([{"op": "add", "path": "/a/l/-1", "value": 3}, {"op": "remove", "path": "/a/l/-3"}]),
                a(json!({"b": "1", "l": [2, 3], "n": null})),
            ),
            (
                json!([{"op": "test", "path": "/a/n"}, {"op": "test", "path": "/a/none", "value": null},
                    {"op": "remove", "path": "/a/n"}, {"op": "move", "from": "/a/b", "path": "/a/l/0"}]),
                a(json!({"l": ["1", 1, 2]})),
            ),
            (
                json!([{"op": "add", "path": "/a"}, {"op": "remove", "path": "/m~0~1"}]),
                Ok(json!({"a": null})),
            ),
        ] {
            assert_eq!(patched(ops.clone()), expected, "{ops}");
        }
    }

    #[test]
    fn operations_that_fail_are_told_as_upstream_tells_them() {
        for (op, expected) in [
            (
                json!({"op": "add", "path": "/x/y", "value": 1}),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!({"op": "add", "path": "/a/n/y", "value": 1}),
                "add operation does not apply: doc is missing path: \"/a/n/y\": missing value",
            ),
            (
                json!({"op": "add", "path": "", "value": {}}),
                "add operation does not apply: doc is missing path: \"\": missing value",
            ),
            (
                json!({"op": "replace", "path": "/a/l/2", "value": 1}),
                "replace operation does not apply: doc is missing key: /a/l/2: missing value",
            ),
            (
                json!({"op": "remove", "path": "/a/x"}),
                "error in remove for path: '/a/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!({"op": "test", "path": "/a/b", "value": 1}),
                "testing value /a/b failed: test failed",
            ),
            (
                json!({"op": "test", "path": "/x/y", "value": 1}),
                "test operation does not apply: is missing path: /x/y: missing value",
            ),
            (
                json!({"op": "copy", "from": "/a/l/7", "path": "/x"}),
                "error in copy for from: '/a/l/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (json!({"op": "odd", "path": "/a"}), "Unexpected kind: odd"),
            (json!({"path": "/a"}), "Unexpected kind: unknown"),
        ] {
            let e = patched(json!([op])).expect_err("does not apply");
            assert_eq!(e, expected);
        }
    }

    #[test]
    fn merges_drop_nulls_of_what_is_new() {
        let mut doc = json!({"a": {"b": 1}, "s": 1, "o": {}});
        let patch = json!({"a": {"b": null, "c": {"d": null, "l": [{"x": null}, null]}},
            "s": {"n": null}, "o": [{"x": null}], "none": null});
        if let (Value::Object(doc), Value::Object(patch)) = (&mut doc, patch) {
            merge(doc, patch);
        }
        assert_eq!(
            doc,
            json!({"a": {"c": {"l": [{}, null]}}, "s": {}, "o": [{"x": null}]})
        );
    }
}
