//! The patch of `kubectl apply`: what was applied last, what is wanted, what is there.
//! Upstream: apimachinery/pkg/util/strategicpatch and jsonmergepatch, CreateThreeWay….

use api::schema::Schema;
use serde_json::{Map, Value, json};

/// The annotation that keeps what was applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

type Fields = Map<String, Value>;

/// A patch that turns `current` into `modified`, and removes what `original` had and `modified` has
/// not. Lists merge by key where the schema says so; without a schema it is a JSON merge patch.
pub fn patch(original: &Value, modified: &Value, current: &Value, schema: &Schema) -> Value {
    let empty = Fields::new();
    let (Some(modified), Some(current)) = (modified.as_object(), current.as_object()) else {
        return modified.clone();
    };
    let original = original.as_object().unwrap_or(&empty);
    Value::Object(fields(original, modified, current, schema))
}

fn fields(original: &Fields, modified: &Fields, current: &Fields, schema: &Schema) -> Fields {
    let empty = Fields::new();
    let mut out = Fields::new();
    for (key, wanted) in modified {
        let below = schema.field(key);
        let before = original.get(key);
        match (current.get(key), wanted) {
            (None, Value::Null) => {}
            (None, _) => {
                out.insert(key.clone(), wanted.clone());
            }
            (Some(Value::Object(c)), Value::Object(m)) => {
                let o = before.and_then(Value::as_object).unwrap_or(&empty);
                let sub = fields(o, m, c, below.unwrap_or(Schema::any()));
                if !sub.is_empty() {
                    out.insert(key.clone(), Value::Object(sub));
                }
            }
            (Some(Value::Array(c)), Value::Array(m)) if below.is_some_and(Schema::patch_merges) => {
                let o = before
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice);
                list(key, o, m, c, below.unwrap_or(Schema::any()), &mut out);
            }
            (Some(c), m) if !same(c, m) => {
                out.insert(key.clone(), m.clone());
            }
            _ => {}
        }
    }
    for key in original.keys() {
        if !modified.contains_key(key) && current.contains_key(key) {
            out.insert(key.clone(), Value::Null);
        }
    }
    if schema.retain_keys && !out.is_empty() {
        let keys: Vec<&String> = modified.keys().collect();
        out.insert("$retainKeys".into(), json!(keys));
    }
    out
}

fn list(
    key: &str,
    original: &[Value],
    modified: &[Value],
    current: &[Value],
    schema: &Schema,
    out: &mut Fields,
) {
    let (part, gone, order) = match schema.patch_merge_key() {
        Some(by) => {
            let keyed = |l: &[Value]| l.iter().all(|v| v.get(by).is_some());
            if !keyed(modified) || !keyed(current) {
                out.insert(key.into(), modified.into());
                return;
            }
            let part = keyed_list(by, original, modified, current, schema);
            let order = modified
                .iter()
                .map(|m| json!({by: m[by]}))
                .collect::<Vec<_>>();
            let moved = !in_order(
                current.iter().map(|c| &c[by]),
                modified.iter().map(|m| &m[by]),
            );
            (part, Vec::new(), (order, moved))
        }
        None => {
            let part: Vec<Value> = modified
                .iter()
                .filter(|m| !current.contains(m))
                .cloned()
                .collect();
            let gone: Vec<Value> = original
                .iter()
                .filter(|o| !modified.contains(o) && current.contains(o))
                .cloned()
                .collect();
            let moved = !in_order(current.iter(), modified.iter());
            (part, gone, (modified.to_vec(), moved))
        }
    };
    let (order, moved) = order;
    if part.is_empty() && gone.is_empty() && !moved {
        return;
    }
    out.insert(format!("$setElementOrder/{key}"), order.into());
    if !gone.is_empty() {
        out.insert(format!("$deleteFromPrimitiveList/{key}"), gone.into());
    }
    if !part.is_empty() {
        out.insert(key.into(), part.into());
    }
}

fn keyed_list(
    by: &str,
    original: &[Value],
    modified: &[Value],
    current: &[Value],
    schema: &Schema,
) -> Vec<Value> {
    let empty = Fields::new();
    let at = |l: &[Value], key: &Value| l.iter().position(|v| &v[by] == key);
    let items = schema.items().unwrap_or(Schema::any());
    let mut part = Vec::new();
    for m in modified {
        let (Some(wanted), Some(there)) = (
            m.as_object(),
            at(current, &m[by]).and_then(|i| current[i].as_object()),
        ) else {
            part.push(m.clone());
            continue;
        };
        let before = at(original, &m[by]).and_then(|i| original[i].as_object());
        let mut sub = fields(before.unwrap_or(&empty), wanted, there, items);
        if !sub.is_empty() {
            sub.insert(by.into(), m[by].clone());
            part.push(Value::Object(sub));
        }
    }
    for o in original {
        if at(modified, &o[by]).is_none() && at(current, &o[by]).is_some() {
            part.push(json!({"$patch": "delete", by: o[by]}));
        }
    }
    part
}

/// Whether those of `modified` that are in `current` stand there in the same order.
fn in_order<'a>(
    current: impl Iterator<Item = &'a Value>,
    modified: impl Iterator<Item = &'a Value>,
) -> bool {
    let current: Vec<&Value> = current.collect();
    let places: Vec<usize> = modified
        .filter_map(|m| current.iter().position(|c| *c == m))
        .collect();
    places.is_sorted()
}

/// Equality where `1` and `1.0` are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// Puts what is applied into the annotation of it.
pub fn annotate(object: &mut Value) {
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    if let Some(Value::Object(all)) = object.pointer_mut("/metadata/annotations") {
        all.remove(LAST_APPLIED);
    }
    let text = crate::printers::json_line(object) + "\n";
    object["metadata"]["annotations"][LAST_APPLIED] = text.into();
}

/// What was applied last, nothing where the annotation is missing.
pub fn last_applied(object: &Value) -> Option<Value> {
    let text = object["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment_patch(original: Value, modified: Value, current: Value) -> Value {
        let schema = api::schema::lookup("apps", "v1", "Deployment").unwrap();
        patch(&original, &modified, &current, schema)
    }

    fn with(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn nothing_changes_where_the_server_only_added() {
        let wanted = with(json!([{"name": "a", "image": "x"}]));
        let current = with(json!([{"name": "a", "image": "x", "imagePullPolicy": "Always"}]));
        assert_eq!(deployment_patch(wanted.clone(), wanted, current), json!({}));
    }

    #[test]
    fn lists_merge_by_key() {
        let before = with(json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]));
        let wanted = with(json!([{"name": "a", "image": "z"}, {"name": "c", "image": "w"}]));
        let found = deployment_patch(before.clone(), wanted, before);
        assert_eq!(
            found["spec"]["template"]["spec"],
            json!({
                "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
                "containers": [{"name": "a", "image": "z"}, {"name": "c", "image": "w"},
                    {"name": "b", "$patch": "delete"}]})
        );
    }

    #[test]
    fn what_was_applied_and_is_gone_is_removed_and_others_stay() {
        let original = json!({"spec": {"replicas": 3, "paused": true}});
        let wanted = json!({"spec": {"paused": true}});
        let current = json!({"spec": {"replicas": 5, "paused": true, "minReadySeconds": 1}});
        assert_eq!(
            deployment_patch(original, wanted, current),
            json!({"spec": {"replicas": null}})
        );
    }

    #[test]
    fn primitive_lists_and_custom_objects() {
        let found = patch(
            &json!({"metadata": {"finalizers": ["a/x", "b/x"]}}),
            &json!({"metadata": {"finalizers": ["a/x", "c/x"]}}),
            &json!({"metadata": {"finalizers": ["a/x", "b/x"]}}),
            api::schema::lookup("", "v1", "Pod").unwrap(),
        );
        assert_eq!(
            found["metadata"]["$deleteFromPrimitiveList/finalizers"],
            json!(["b/x"])
        );
        let found = patch(
            &json!({"a": 1, "l": [1]}),
            &json!({"l": [2]}),
            &json!({"a": 1, "l": [1], "s": 0}),
            Schema::any(),
        );
        assert_eq!(found, json!({"a": null, "l": [2]}));
    }

    #[test]
    fn the_annotation_holds_the_object_without_itself() {
        let mut o = json!({"kind": "X", "metadata": {"name": "a"}});
        annotate(&mut o);
        annotate(&mut o);
        assert_eq!(
            o["metadata"]["annotations"][LAST_APPLIED],
            "{\"kind\":\"X\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n"
        );
        assert_eq!(last_applied(&o).unwrap()["metadata"]["name"], "a");
    }
}
