//! Small readers and writers over an object in its JSON form, the working form of the write path.

use serde_json::{Map, Value};

/// The string at a dotted path of plain field names, or `""`.
pub fn str_at<'a>(obj: &'a Value, path: &str) -> &'a str {
    at(obj, path).and_then(Value::as_str).unwrap_or("")
}

/// The names of a path. They are short, and every write asks for dozens: no search is set up for each.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(dot) = text.bytes().position(|b| b == b'.') else {
            return rest.take();
        };
        rest = Some(&text[dot + 1..]);
        Some(&text[..dot])
    })
}

/// The value at a dotted path of plain field names.
pub fn at<'a>(obj: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)
        .try_fold(obj, |v, key| v.get(key))
        .filter(|v| !v.is_null())
}

/// The integer at a dotted path.
pub fn i64_at(obj: &Value, path: &str) -> Option<i64> {
    at(obj, path).and_then(Value::as_i64)
}

/// The bool at a dotted path.
pub fn bool_at(obj: &Value, path: &str) -> Option<bool> {
    at(obj, path).and_then(Value::as_bool)
}

/// The list at a dotted path, or an empty one.
pub fn list_at<'a>(obj: &'a Value, path: &str) -> &'a [Value] {
    at(obj, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or(&[])
}

/// The map at a dotted path.
pub fn map_at<'a>(obj: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    at(obj, path).and_then(Value::as_object)
}

/// The map at a dotted path, made where absent (anything else there is replaced).
pub fn map_mut<'a>(obj: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut v = obj;
    for key in steps(path).filter(|k| !k.is_empty()) {
        let map = as_map(v);
        if !map.contains_key(key) {
            map.insert(key.to_string(), Value::Null);
        }
        v = map.get_mut(key).expect("made above");
    }
    as_map(v)
}

/// A value as a map, which it becomes if it is none.
fn as_map(v: &mut Value) -> &mut Map<String, Value> {
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    v.as_object_mut().expect("made an object above")
}

/// Sets the value at a dotted path, making the maps on the way.
pub fn set(obj: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let map = map_mut(obj, parent);
    match map.get_mut(key) {
        Some(there) => *there = value,
        None => {
            map.insert(key.to_string(), value);
        }
    }
}

/// Sets the value at a dotted path only where there is none (null counts as none).
pub fn set_default(obj: &mut Value, path: &str, value: Value) {
    if at(obj, path).is_none() {
        set(obj, path, value);
    }
}

/// Removes the value at a dotted path and gives it back.
pub fn remove(obj: &mut Value, path: &str) -> Option<Value> {
    let (parent, key) = match path.rsplit_once('.') {
        Some((parent, key)) => (at_mut(obj, parent)?, key),
        None => (obj, path),
    };
    parent.as_object_mut()?.remove(key)
}

/// The value at a dotted path, to change in place.
pub fn at_mut<'a>(obj: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    steps(path).try_fold(obj, |v, key| v.get_mut(key))
}

/// `metadata.name`, or `""`.
pub fn name(obj: &Value) -> &str {
    str_at(obj, "metadata.name")
}

/// `metadata.namespace`, or `""`.
pub fn namespace(obj: &Value) -> &str {
    str_at(obj, "metadata.namespace")
}

/// `metadata.uid`, or `""`.
pub fn uid(obj: &Value) -> &str {
    str_at(obj, "metadata.uid")
}

/// Whether `metadata.deletionTimestamp` is set.
pub fn is_deleting(obj: &Value) -> bool {
    at(obj, "metadata.deletionTimestamp").is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_followed_and_made() {
        let mut obj = json!({"a": {"b": 1, "c": null, "d": "x"}});
        assert_eq!(at(&obj, "a.b"), Some(&json!(1)));
        assert_eq!(at(&obj, "a.c"), None);
        for missing in ["", ".", "a.", ".a", "a..b", "a.b.e", "a.d.e", "b"] {
            assert_eq!(at(&obj, missing), None, "{missing:?}");
        }
        set(&mut obj, "a.b", json!(2));
        set(&mut obj, "a.d.e", json!(3));
        set(&mut obj, "f.g.h", json!(4));
        set(&mut obj, "i", json!(5));
        let expected =
            json!({"a": {"b": 2, "c": null, "d": {"e": 3}}, "f": {"g": {"h": 4}}, "i": 5});
        assert_eq!(obj, expected);
        assert_eq!(remove(&mut obj, "f.g"), Some(json!({"h": 4})));
        assert_eq!(remove(&mut obj, "x.y"), None);
        assert_eq!(map_mut(&mut obj, "").len(), 3);
    }
}
