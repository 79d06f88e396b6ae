//! What the applier decides: which objects a stack holds, what changes in one, what is pruned.

use machinery::object::{self, at, map_mut, str_at};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Names the stack of an object.
pub const STACK_LABEL: &str = "k0s.k0sproject.io/stack";
/// Tells whether a manifest changed since it was applied.
pub const CHECKSUM: &str = "k0s.k0sproject.io/stack-checksum";
/// The manifest as it was applied last.
pub const LAST_APPLIED: &str = "k0s.k0sproject.io/last-applied-configuration";

/// What identifies an object: group, kind, namespace, name.
pub type Id = (String, String, String, String);

/// The objects of a file; lists are taken apart.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    for document in all.into_iter().filter(|d| !d.is_null()) {
        let kind = str_at(&document, "kind");
        if kind.ends_with("List") && document["items"].is_array() {
            out.extend(object::list_at(&document, "items").iter().cloned());
        } else {
            out.push(document);
        }
    }
    for o in &out {
        for field in ["apiVersion", "kind", "metadata.name"] {
            if str_at(o, field).is_empty() {
                return Err(format!("an object has no {field}"));
            }
        }
    }
    Ok(out)
}

/// Namespaces and custom kinds come before what lives in them.
pub fn order(objects: &mut [Value]) {
    objects.sort_by_key(|o| match str_at(o, "kind") {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
}

/// Who an object is.
pub fn id(o: &Value) -> Id {
    let group = match str_at(o, "apiVersion").split_once('/') {
        Some((group, _)) => group,
        None => "",
    };
    (
        group.to_string(),
        str_at(o, "kind").to_string(),
        object::namespace(o).to_string(),
        object::name(o).to_string(),
    )
}

/// The manifest as it is sent: labelled with its stack, and with what the next change needs to know.
pub fn mark(manifest: &Value, stack: &str) -> Value {
    let text = manifest.to_string();
    let mut marked = manifest.clone();
    map_mut(&mut marked, "metadata.labels").insert(STACK_LABEL.into(), json!(stack));
    let notes = map_mut(&mut marked, "metadata.annotations");
    notes.insert(CHECKSUM.into(), json!(checksum(&text)));
    notes.insert(LAST_APPLIED.into(), json!(text));
    marked
}

/// The SHA-256 of a text in hexadecimal digits.
pub fn checksum(text: &str) -> String {
    let sum = Sha256::digest(text.as_bytes());
    sum.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a stored object is what the manifest says already.
pub fn is_applied(stored: &Value, marked: &Value) -> bool {
    let note = |o: &Value| {
        let notes = object::map_at(o, "metadata.annotations");
        notes.and_then(|n| n.get(CHECKSUM).cloned())
    };
    let label = |o: &Value| {
        let labels = object::map_at(o, "metadata.labels");
        labels.and_then(|l| l.get(STACK_LABEL).cloned())
    };
    note(stored) == note(marked) && label(stored) == label(marked)
}

/// The merge patch that makes `stored` what `marked` says: its fields set, and fields that only the last
/// applied manifest had removed. What others set stays.
pub fn patch(stored: &Value, marked: &Value) -> Value {
    let last = at(stored, "metadata.annotations")
        .and_then(|n| n.get(LAST_APPLIED)?.as_str())
        .and_then(|t| serde_json::from_str(t).ok())
        .unwrap_or(Value::Null);
    Value::Object(changes(&last, stored, marked))
}

fn changes(last: &Value, stored: &Value, wanted: &Value) -> Map<String, Value> {
    let none = Map::new();
    let fields = |v: &'_ Value| v.as_object().cloned().unwrap_or_else(|| none.clone());
    let (last, stored, wanted) = (fields(last), fields(stored), fields(wanted));
    let mut out = Map::new();
    for (key, value) in &wanted {
        let now = stored.get(key);
        if value.is_object() && now.is_some_and(Value::is_object) {
            let before = last.get(key).unwrap_or(&Value::Null);
            let inner = changes(before, now.unwrap_or(&Value::Null), value);
            if !inner.is_empty() {
                out.insert(key.clone(), Value::Object(inner));
            }
        } else if now != Some(value) {
            out.insert(key.clone(), value.clone());
        }
    }
    for key in last.keys().filter(|k| !wanted.contains_key(*k)) {
        if stored.contains_key(key) {
            out.insert(key.clone(), Value::Null);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_documents_and_lists() {
        let text = "# a comment\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns\n";
        let mut all = documents(text)
            .unwrap_or_else(|e| panic!("{e}: {:?}", serde_saphyr::from_multiple::<Value>(text)));
        order(&mut all);
        let names: Vec<_> = all.iter().map(object::name).collect();
        assert_eq!(names, ["ns", "a"]);
        let e = documents("apiVersion: v1\nkind: Pod\n").unwrap_err();
        assert_eq!(e, "an object has no metadata.name");
        let mut laughs = String::from("a0: &a0 ha\n");
        for n in 1..12 {
            let before = format!("*a{}, ", n - 1).repeat(10);
            laughs.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        let deep = "[".repeat(100_000);
        for text in ["a: b: c", "a: &a [*a]", "5", "- x", "\u{0}", &laughs, &deep] {
            assert!(documents(text).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn a_patch_sets_removes_and_leaves_others_alone() {
        let first = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "1"}},
            "data": {"kept": "1", "dropped": "1"}});
        let mut stored = mark(&first, "s");
        stored["data"]["others"] = json!("x");
        let second = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
            "data": {"kept": "2"}});
        let marked = mark(&second, "s");
        assert!(!is_applied(&stored, &marked));
        let patch = patch(&stored, &marked);
        assert_eq!(patch["data"], json!({"kept": "2", "dropped": null}));
        // The label goes; the stack's own stays.
        assert_eq!(patch["metadata"]["labels"], json!({"a": null}));
        assert!(is_applied(&mark(&first, "s"), &mark(&first, "s")));
        assert!(!is_applied(&mark(&first, "s"), &mark(&first, "t")));
    }
}
