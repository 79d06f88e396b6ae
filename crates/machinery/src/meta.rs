//! `metadata`: what clients may write there. Upstream: apimachinery/pkg/api/validation/objectmeta.go.

use api::names;
use serde_json::{Value, json};

use crate::causes::{CauseKind, Causes, go_json, go_quote};
use crate::object::{at, map_at, str_at};

/// Sum of key and value sizes of all annotations.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Checks the metadata of a new object. `name_problems` is the resource's own name check.
pub fn validate(
    obj: &Value,
    namespaced: bool,
    name_problems: &dyn Fn(&str, bool) -> Vec<String>,
    causes: &mut Causes,
) {
    validate_generic(obj, namespaced, name_problems, causes);
    causes.at("metadata", |c| qualified_finalizers(obj, c));
}

/// The same for what upstream's generic server has, definitions and custom resources: any finalizer will do.
pub fn validate_generic(
    obj: &Value,
    namespaced: bool,
    name_problems: &dyn Fn(&str, bool) -> Vec<String>,
    causes: &mut Causes,
) {
    causes.at("metadata", |c| {
        let generate = str_at(obj, "metadata.generateName");
        if !generate.is_empty() {
            c.at("generateName", |c| {
                for problem in name_problems(generate, true) {
                    c.invalid(&json!(generate), problem);
                }
            });
        }
        let name = str_at(obj, "metadata.name");
        c.at("name", |c| {
            if name.is_empty() {
                c.required("name or generateName is required");
            } else {
                for problem in name_problems(name, false) {
                    c.invalid(&json!(name), problem);
                }
            }
        });
        let namespace = str_at(obj, "metadata.namespace");
        c.at("namespace", |c| match (namespaced, namespace) {
            (true, "") => c.required(""),
            (true, ns) => {
                for problem in names::label_name(ns, false) {
                    c.invalid(&json!(ns), problem);
                }
            }
            (false, "") => {}
            (false, _) => c.forbidden("not allowed on this type"),
        });
        common(obj, c);
        finalizers(obj, c);
    });
}

/// Checks the metadata of a changed object against what is stored.
pub fn validate_update(obj: &Value, before: &Value, causes: &mut Causes) {
    validate_generic_update(obj, before, causes);
    causes.at("metadata", |c| qualified_finalizers(obj, c));
}

/// The same for what upstream's generic server has. What all kinds have in common is checked as of a new object and
/// as of a changed one before the kind's own strategy does it once more; everything is told each time.
pub fn validate_generic_update(obj: &Value, before: &Value, causes: &mut Causes) {
    causes.at("metadata", |c| {
        let begun = c.len();
        common(obj, c);
        finalizers(obj, c);
        changed(obj, before, c);
        if c.len() == begun {
            // What has nothing to say has nothing to say again.
            return;
        }
        common(obj, c);
        changed(obj, before, c);
        common(obj, c);
    });
}

/// What a change may not do.
fn changed(obj: &Value, before: &Value, c: &mut Causes) {
    if at(before, "metadata.deletionTimestamp").is_some() {
        let known = strings(before, "metadata.finalizers");
        let mut added = strings(obj, "metadata.finalizers");
        added.retain(|f| !known.contains(f));
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list = go_strings(&added);
            c.at("finalizers", |c| {
                c.forbidden(format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers {list}"
                ));
            });
        }
    }
    let (new, old) = (generation(obj), generation(before));
    if new < old {
        c.at("generation", |c| {
            c.invalid(&json!(new), "must not be decremented")
        });
    }
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        immutable(obj, before, field, c);
    }
    let deletes = |o: &Value| at(o, "metadata.deletionTimestamp").cloned();
    if deletes(obj) != deletes(before) {
        immutable(obj, before, "deletionTimestamp", c);
    }
    let grace = |o: &Value| at(o, "metadata.deletionGracePeriodSeconds").cloned();
    if grace(before).is_some() && grace(obj) != grace(before) {
        immutable(obj, before, "deletionGracePeriodSeconds", c);
    }
}

fn go_strings(list: &[String]) -> String {
    let all: Vec<String> = list.iter().map(|s| crate::causes::go_quote(s)).collect();
    format!("[]string{{{}}}", all.join(", "))
}

fn generation(obj: &Value) -> i64 {
    crate::object::i64_at(obj, "metadata.generation").unwrap_or(0)
}

fn immutable(obj: &Value, before: &Value, field: &str, c: &mut Causes) {
    let path = format!("metadata.{field}");
    let new = at(obj, &path);
    if new != at(before, &path) {
        let shown = new.cloned().unwrap_or_else(|| {
            if field.contains("Timestamp") {
                Value::Null
            } else {
                json!("")
            }
        });
        c.at(field, |c| c.invalid(&shown, "field is immutable"));
    }
}

fn strings(obj: &Value, path: &str) -> Vec<String> {
    crate::object::list_at(obj, path)
        .iter()
        .filter_map(|v| v.as_str().map(str::to_string))
        .collect()
}

fn common(obj: &Value, c: &mut Causes) {
    if generation(obj) < 0 {
        c.at("generation", |c| {
            c.invalid(
                &json!(generation(obj)),
                "must be greater than or equal to 0",
            );
        });
    }
    c.at("labels", |c| labels(map_at(obj, "metadata.labels"), c));
    c.at("annotations", |c| {
        annotations(map_at(obj, "metadata.annotations"), c)
    });
    c.at("ownerReferences", |c| owners(obj, c));
}

/// Finalizers that may have no domain.
const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

fn qualified_finalizers(obj: &Value, c: &mut Causes) {
    c.at("finalizers", |c| {
        for (i, f) in strings(obj, "metadata.finalizers").iter().enumerate() {
            if !f.contains('/') && !STANDARD.contains(&f.as_str()) {
                let why = "name is neither a standard finalizer name nor is it fully qualified";
                c.index(i, |c| c.invalid(&json!(f), why));
            }
        }
    });
}

/// What clients are told of finalizers that a custom resource gets.
pub fn finalizer_warnings(obj: &Value, before: Option<&Value>) -> Vec<String> {
    let known = before
        .map(|b| strings(b, "metadata.finalizers"))
        .unwrap_or_default();
    let mut added = strings(obj, "metadata.finalizers");
    added.retain(|f| !known.contains(f));
    added.sort_unstable();
    added.dedup();
    let mut out = Vec::new();
    for f in added {
        let mut warn =
            |text: &str| out.push(format!("metadata.finalizers: {}: {text}", go_quote(&f)));
        names::qualified_name(&f).iter().for_each(|p| warn(p));
        if f.contains('/') || STANDARD.contains(&f.as_str()) {
            continue;
        }
        let path = if f.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        warn(&format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        ));
    }
    out
}

fn finalizers(obj: &Value, c: &mut Causes) {
    c.at("finalizers", |c| {
        let all = strings(obj, "metadata.finalizers");
        for f in &all {
            for problem in names::qualified_name(f) {
                c.invalid(&json!(f), problem);
            }
        }
        let has = |name: &str| all.iter().any(|f| f == name);
        if has("orphan") && has("foregroundDeletion") {
            let list = json!(all);
            c.invalid(
                &list,
                "finalizer orphan and foregroundDeletion cannot be both set",
            );
        }
    });
}

/// Checks a map of labels at the current path.
pub fn labels(map: Option<&serde_json::Map<String, Value>>, c: &mut Causes) {
    for (key, value) in map.into_iter().flatten() {
        for problem in names::qualified_name(key) {
            c.invalid(&json!(key), problem);
        }
        let value = value.as_str().unwrap_or_default();
        for problem in names::label_value(value) {
            c.invalid(&json!(value), problem);
        }
    }
}

/// Checks a map of annotations at the current path.
pub fn annotations(map: Option<&serde_json::Map<String, Value>>, c: &mut Causes) {
    let mut total = 0;
    for (key, value) in map.into_iter().flatten() {
        // Upstream lower-cases the key before it is judged.
        for problem in names::qualified_name(&key.to_lowercase()) {
            c.invalid(&json!(key), problem);
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_BYTES_MAX {
        c.too_long(ANNOTATIONS_BYTES_MAX);
    }
}

/// An owner as Go writes it.
fn owner_text(o: &Value) -> String {
    let text = |name: &str| format!("\"{name}\":{}", go_json(&json!(str_at(o, name))));
    let mut all: Vec<String> = ["apiVersion", "kind", "name", "uid"].map(text).into();
    for name in ["controller", "blockOwnerDeletion"] {
        if let Some(v) = o.get(name) {
            all.push(format!("\"{name}\":{v}"));
        }
    }
    format!("{{{}}}", all.join(","))
}

fn owners(obj: &Value, c: &mut Causes) {
    let mut controller: Option<String> = None;
    for (i, o) in crate::object::list_at(obj, "metadata.ownerReferences")
        .iter()
        .enumerate()
    {
        c.index(i, |c| {
            let api_version = str_at(o, "apiVersion");
            c.at("apiVersion", |c| {
                let parts: Vec<&str> = api_version.split('/').collect();
                if api_version.is_empty() {
                    c.required("must not be empty");
                } else if parts.len() > 2 || parts.last().is_some_and(|v| v.is_empty()) {
                    c.invalid(
                        &json!(api_version),
                        "must be <group>/<version> or <version>",
                    );
                }
            });
            for field in ["kind", "name", "uid"] {
                if str_at(o, field).is_empty() {
                    c.at(field, |c| c.required("must not be empty"));
                }
            }
            if api_version == "v1" && str_at(o, "kind") == "Event" {
                let why = "/v1, Kind=Event is disallowed from being an owner";
                c.shown(CauseKind::Invalid, owner_text(o), why);
            }
        });
        if o.get("controller") == Some(&json!(true)) {
            let name = format!("{}/{}", str_at(o, "kind"), str_at(o, "name"));
            if let Some(first) = &controller {
                let all = crate::object::list_at(obj, "metadata.ownerReferences");
                let shown: Vec<String> = all.iter().map(owner_text).collect();
                c.shown(
                    CauseKind::Invalid,
                    format!("[{}]", shown.join(",")),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                );
            } else {
                controller = Some(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(obj: Value) -> Vec<String> {
        let mut causes = Causes::new();
        validate(&obj, true, &names::subdomain_name, &mut causes);
        causes
            .as_slice()
            .iter()
            .map(crate::causes::Cause::text)
            .collect()
    }

    #[test]
    fn good_metadata_passes() {
        let obj = json!({"metadata": {"name": "a", "namespace": "d", "labels": {"a/b": "c"},
            "annotations": {"X": "anything at all"}, "finalizers": ["x.io/y"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}});
        assert_eq!(problems(obj), Vec::<String>::new());
    }

    #[test]
    fn bad_metadata_is_named() {
        let found = problems(json!({"metadata": {"name": "A", "labels": {"a b": "c d"},
            "finalizers": ["nope"], "ownerReferences": [{"apiVersion": ""}]}}));
        for start in [
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            "metadata.namespace: Required value",
            "metadata.labels: Invalid value: \"a b\": name part must consist of",
            "metadata.labels: Invalid value: \"c d\": a valid label must be",
            "metadata.ownerReferences[0].apiVersion: Required value: must not be empty",
            "metadata.ownerReferences[0].kind: Required value: must not be empty",
            "metadata.finalizers[0]: Invalid value: \"nope\": name is neither a standard",
        ] {
            assert!(
                found.iter().any(|f| f.starts_with(start)),
                "{start} not in {found:#?}"
            );
        }
    }

    #[test]
    fn finalizers_of_custom_resources_are_warned_of() {
        let before = json!({"metadata": {"finalizers": ["old"]}});
        let after = json!({"metadata": {"finalizers": ["old", "x.io/y", "orphan", "b.c", "bad"]}});
        let with = |why: &str| {
            format!(
                "prefer a domain-qualified finalizer name{why} to avoid accidental conflicts with other finalizer writers"
            )
        };
        assert_eq!(
            finalizer_warnings(&after, Some(&before)),
            [
                format!(
                    "metadata.finalizers: \"b.c\": {}",
                    with(" including a path (/)")
                ),
                format!("metadata.finalizers: \"bad\": {}", with("")),
            ]
        );
        let mut causes = Causes::new();
        validate_generic_update(&after, &before, &mut causes);
        assert!(causes.is_empty());
        let deleted = json!({"metadata": {"finalizers": ["old"], "deletionTimestamp": "t"}});
        validate_generic_update(&after, &deleted, &mut causes);
        let told = causes.as_slice().iter().map(crate::causes::Cause::text);
        assert_eq!(told.filter(|t| t.contains("no new finalizers")).count(), 2);
    }

    #[test]
    fn stored_names_stay() {
        let before = json!({"metadata": {"name": "a", "namespace": "d", "uid": "1"}});
        let after = json!({"metadata": {"name": "a", "namespace": "d", "uid": "2"}});
        let mut causes = Causes::new();
        validate_update(&after, &before, &mut causes);
        assert_eq!(
            causes.as_slice()[0].text(),
            "metadata.uid: Invalid value: \"2\": field is immutable"
        );
    }
}
