//! Strategic merge patch: lists merge by key where the type says so.
//! Upstream: apimachinery/pkg/util/strategicpatch; api-semantics §8.3.

use std::collections::{HashMap, HashSet, VecDeque};

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
        let keep = keep.as_array();
        let keep = keep.ok_or_else(|| invalid("invalid $retainKeys list"))?;
        let keep: HashSet<&str> = keep.iter().filter_map(Value::as_str).collect();
        base.retain(|k, _| keep.contains(k.as_str()));
    }
    let orders: Vec<(String, Value, Vec<Value>)> = take_prefixed(&mut patch, ORDER)
        .into_iter()
        .map(|(field, order)| {
            let before = base.get(&field).and_then(Value::as_array).cloned();
            (field, order, before.unwrap_or_default())
        })
        .collect();
    for (field, gone) in take_prefixed(&mut patch, DELETE_PRIMITIVE) {
        let gone = gone.as_array();
        let gone = gone.ok_or_else(|| invalid("invalid $deleteFromPrimitiveList"))?;
        let gone: HashSet<&Value> = gone.iter().collect();
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
        let mut seen: HashSet<&Value> = base.iter().collect();
        let new = patch.iter().filter(|v| seen.insert(v));
        let mut out: Vec<Value> = new.cloned().collect();
        out.splice(0..0, base.iter().cloned());
        arrange(&mut out, &patch, &base, None);
        return Ok(out);
    };
    let item = schema.items().unwrap_or(Schema::any());
    let replace = patch
        .iter()
        .any(|v| v.get(DIRECTIVE).is_some_and(|d| d == "replace"));
    let before = if replace { Vec::new() } else { base };
    let (mut out, order) = (Keyed::new(key, &before), patch.clone());
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
        if directive.as_ref().is_some_and(|d| d == "delete") {
            out.remove(&id);
            continue;
        }
        if directive.as_ref().is_some_and(|d| d == "merge") {
            fields.remove(DIRECTIVE);
        }
        let (place, old) = out.take(&id);
        let merged = merge_map(old.unwrap_or_default(), fields, item)?;
        out.put(place, merged);
    }
    let mut out: Vec<Value> = out.items.into_iter().flatten().collect();
    arrange(&mut out, &order, &before, Some(key));
    Ok(out)
}

/// A list on its way to be merged, whose items are found by their key however many they are.
struct Keyed<'a> {
    key: &'a str,
    /// Nothing where one was deleted.
    items: Vec<Option<Value>>,
    /// Where the items of a key are, in order.
    places: HashMap<Value, VecDeque<usize>>,
}

// === Keyed ===

impl<'a> Keyed<'a> {
    fn new(key: &'a str, items: &[Value]) -> Self {
        let mut out = Self {
            key,
            items: Vec::new(),
            places: HashMap::new(),
        };
        for item in items {
            out.note(item, out.items.len(), false);
            out.items.push(Some(item.clone()));
        }
        out
    }

    /// Notes the place of an item that has a key.
    fn note(&mut self, item: &Value, place: usize, first: bool) {
        let Some(id) = item.get(self.key) else { return };
        let places = self.places.entry(id.clone()).or_default();
        match first {
            true => places.push_front(place),
            false => places.push_back(place),
        }
    }

    fn remove(&mut self, id: &Value) {
        for place in self.places.remove(id).unwrap_or_default() {
            self.items[place] = None;
        }
    }

    /// Takes the first item of a key out, from a place that waits for what becomes of it.
    fn take(&mut self, id: &Value) -> (Option<usize>, Option<Fields>) {
        let place = self.places.get_mut(id).and_then(VecDeque::pop_front);
        let item = place.and_then(|place| self.items[place].take());
        match item {
            Some(Value::Object(fields)) => (place, Some(fields)),
            _ => (place, None),
        }
    }

    /// Puts an item where one was taken, or at the end.
    fn put(&mut self, place: Option<usize>, item: Fields) {
        let item = Value::Object(item);
        let end = self.items.len();
        self.note(&item, place.unwrap_or(end), place.is_some());
        match place {
            Some(place) => self.items[place] = Some(item),
            None => self.items.push(Some(item)),
        }
    }
}

/// Orders a merged list: what the order names comes in that order. What only the server has keeps its order,
/// and stands before a named item only where it stood before it on the server; so new items come first.
fn arrange(list: &mut Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) {
    let (order, before) = (places(order, key), places(before, key));
    let place = |all: &HashMap<&Value, usize>, v: &Value| {
        identity(v, key).and_then(|id| all.get(id)).copied()
    };
    let (mut named, others): (Vec<Value>, Vec<Value>) = std::mem::take(list)
        .into_iter()
        .partition(|v| place(&order, v).is_some());
    named.sort_by_key(|v| place(&order, v));
    let mut others = others.into_iter().peekable();
    for v in named {
        let there = place(&before, &v);
        let stood_first = |o: &Value| match (place(&before, o), there) {
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

/// Where each value, or each key, is first.
fn places<'a>(all: &'a [Value], key: Option<&str>) -> HashMap<&'a Value, usize> {
    let mut out = HashMap::with_capacity(all.len());
    for (i, v) in all.iter().enumerate() {
        if let Some(id) = identity(v, key) {
            out.entry(id).or_insert(i);
        }
    }
    out
}

/// What tells a value of a list from others: the value of its key, or the whole.
fn identity<'a>(v: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    key.map_or(Some(v), |k| v.get(k))
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
    fn items_are_found_however_often_their_key_is_there() {
        let volume = |name: &str, path: &str| json!({"name": name, "hostPath": {"path": path}});
        let before =
            json!({"spec": {"volumes": [volume("a", "1"), volume("b", "2"), volume("a", "3")]}});
        let patched = |patch: Value| apply(before.clone(), json!({"spec": {"volumes": patch}}));
        let first = patched(json!([
            volume("a", "4"),
            volume("c", "5"),
            volume("c", "6")
        ]));
        assert_eq!(
            first["spec"]["volumes"],
            json!([
                volume("a", "4"),
                volume("a", "3"),
                volume("c", "6"),
                volume("b", "2")
            ])
        );
        let none = patched(json!([{"name": "a", "$patch": "delete"}, volume("a", "7")]));
        assert_eq!(
            none["spec"]["volumes"],
            json!([volume("a", "7"), volume("b", "2")])
        );
        let many = |image: &str| -> Vec<Value> {
            let one = |i| json!({"name": format!("c{i}"), "image": image});
            (0..20_000).map(one).collect()
        };
        let after = apply(
            json!({"spec": {"containers": many("1")}}),
            json!({"spec": {"containers": many("2")}}),
        );
        assert_eq!(after["spec"]["containers"], Value::Array(many("2")));
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
