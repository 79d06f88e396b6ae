//! Namespace. Upstream: pkg/registry/core/namespace.

use api::names;
use jiff::Timestamp;
use machinery::object::{is_deleting, list_at, set, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{
    Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, Verb, WriteContext,
};
use serde_json::{Value, json};

use crate::cells;

/// The label that carries the name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

struct Namespace;

/// All verbs but deletecollection.
const VERBS: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let mut d = Descriptor::new(
        "",
        "v1",
        "Namespace",
        "namespaces",
        Scope::Cluster,
        Namespace,
    )
    .short(&["ns"])
    .status()
    .sub("finalize", SubresourceKind::ObjectUpdate);
    d.verbs = VERBS;
    d
}

/// Checks spec.finalizers at the current path; only finalize tells which one is wrong.
fn finalizers(obj: &Value, indexed: bool, c: &mut Causes) {
    for (i, f) in list_at(obj, "spec.finalizers").iter().enumerate() {
        let name = f.as_str().unwrap_or_default();
        let judge = |c: &mut Causes| {
            for problem in names::qualified_name(name) {
                c.invalid(f, problem);
            }
            let standard = ["kubernetes", "orphan", "foregroundDeletion"];
            if !name.contains('/') && !standard.contains(&name) {
                c.invalid(
                    f,
                    "name is neither a standard finalizer name nor is it fully qualified",
                );
            }
        };
        if indexed {
            c.index(i, judge);
        } else {
            judge(c);
        }
    }
}

impl Strategy for Namespace {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::label_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        let name = machinery::object::name(obj).to_string();
        if !name.is_empty() {
            machinery::object::map_mut(obj, "metadata.labels")
                .insert(NAME_LABEL.into(), json!(name));
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        // A generated name is known only now.
        self.set_defaults(obj);
        set(obj, "status", json!({"phase": "Active"}));
        let mut finalizers = list_at(obj, "spec.finalizers").to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push(json!("kubernetes"));
        }
        set(obj, "spec.finalizers", json!(finalizers));
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "spec");
        keep(obj, before, "status");
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
    }

    fn prepare_subresource(&self, _sub: &str, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| {
            c.at("finalizers", |c| finalizers(obj, false, c))
        });
    }

    fn validate_subresource(&self, _sub: &str, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("spec", |c| c.at("finalizers", |c| finalizers(obj, true, c)));
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        let phase = json!(str_at(obj, "status.phase"));
        let (wanted, text) = if is_deleting(obj) {
            (
                "Terminating",
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            )
        } else {
            (
                "Active",
                "may only be 'Active' if `deletionTimestamp` is empty",
            )
        };
        if phase != wanted {
            causes.at("status", |c| c.at("Phase", |c| c.invalid(&phase, text)));
        }
    }

    fn is_held(&self, obj: &Value) -> bool {
        !list_at(obj, "spec.finalizers").is_empty()
    }

    fn mark_deleting(&self, obj: &mut Value) {
        machinery::object::remove(obj, "metadata.deletionGracePeriodSeconds");
        set(obj, "status.phase", json!("Terminating"));
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["status.phase"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", str_at(obj, "status.phase").to_string())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Status"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(str_at(obj, "status.phase")),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_are_standard_or_qualified() {
        let obj = json!({"spec": {"finalizers": ["kubernetes", "a.io/b", "odd"]}});
        let mut c = Causes::new();
        Namespace.validate(&obj, &mut c);
        Namespace.validate_subresource("finalize", &obj, &obj, &mut c);
        let fields: Vec<&str> = c.as_slice().iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, ["spec.finalizers", "spec.finalizers[2]"]);
    }
}
