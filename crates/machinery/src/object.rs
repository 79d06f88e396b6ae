//! Small readers and writers over an object in its JSON form, the working form of the write path.

use serde_json::{Map, Value};

/// The string at a dotted path of plain field names, or `""`.
pub fn str_at<'a>(obj: &'a Value, path: &str) -> &'a str {
    at(obj, path).and_then(Value::as_str).unwrap_or("")
}

/// The value at a dotted path of plain field names.
pub fn at<'a>(obj: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
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
    for key in path.split('.').filter(|k| !k.is_empty()) {
        if !v.is_object() {
            *v = Value::Object(Map::new());
        }
        v = v
            .as_object_mut()
            .expect("made an object above")
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    v.as_object_mut().expect("made an object above")
}

/// Sets the value at a dotted path, making the maps on the way.
pub fn set(obj: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    map_mut(obj, parent).insert(key.to_string(), value);
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
    path.split('.').try_fold(obj, |v, key| v.get_mut(key))
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
