//! PersistentVolumeClaim. Upstream: pkg/registry/core/persistentvolumeclaim, ValidatePersistentVolumeClaim;
//! validation-core §13.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, map_at, remove, set, set_default, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

use super::persistent_volume::{access_modes, amount, class, modes, or_unset, phase};
use super::same;
use crate::cells;
use crate::checks::{self, quantity, selectors};

struct PersistentVolumeClaim;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATES: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        Scope::Namespaced,
        PersistentVolumeClaim,
    )
    .short(&["pvc"])
    .sub("status", SubresourceKind::Status)
}

impl Strategy for PersistentVolumeClaim {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn set_defaults(&self, obj: &mut Value) {
        if str_at(obj, "status.phase").is_empty() {
            set(obj, "status.phase", json!("Pending"));
        }
        if at(obj, "spec").is_some() {
            set_default(obj, "spec.volumeMode", json!("Filesystem"));
        }
        for path in [
            "spec.resources.requests",
            "spec.resources.limits",
            "status.capacity",
            "status.allocatedResources",
        ] {
            super::amounts::canonical_list(obj, path);
        }
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        set(obj, "status", json!({"phase": "Pending"}));
        data_sources(obj, false);
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
        let used =
            at(before, "spec.dataSource").is_some() || at(before, "spec.dataSourceRef").is_some();
        data_sources(obj, used);
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| spec(obj.get("spec").unwrap_or(&Value::Null), c));
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        changes(obj, before, causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        status(obj, causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if map_at(obj, "metadata.annotations").is_some_and(|a| a.contains_key(BETA_CLASS)) {
            out.push(format!("metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"));
        }
        fractions("spec", obj.get("spec").unwrap_or(&Value::Null), &mut out);
        out
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let names = [
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
        ];
        let mut all = vec![Column::name()];
        all.extend(names.map(Column::new));
        all.push(Column::new("VolumeMode").wide());
        all
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let volume = str_at(obj, "spec.volumeName");
        let bound = !volume.is_empty();
        let shown = |v: Value| if bound { v } else { json!("") };
        vec![
            cells::name(obj),
            phase(obj),
            json!(volume),
            shown(amount(obj, "status.capacity")),
            shown(json!(access_modes(list_at(obj, "status.accessModes")))),
            json!(class(obj)),
            or_unset(obj, "spec.volumeAttributesClassName"),
            cells::age(obj, now),
            or_unset(obj, "spec.volumeMode"),
        ]
    }
}

/// Warns of amounts that are no whole bytes.
pub fn fractions(path: &str, spec: &Value, out: &mut Vec<String>) {
    for which in ["requests", "limits"] {
        let value = at(spec, &format!("resources.{which}.storage"));
        let Some(q) = value.and_then(super::amounts::read) else {
            continue;
        };
        if q.milli_value() % 1000 != 0 {
            out.push(format!("{path}.resources.{which}[storage]: fractional byte value \"{q}\" is invalid, must be an integer"));
        }
    }
}

/// dataSource and dataSourceRef say the same where both can.
fn data_sources(obj: &mut Value, used: bool) {
    let (source, other) = ("spec.dataSource", "spec.dataSourceRef");
    if at(obj, "spec.dataSourceRef.namespace").is_some() {
        // Gate CrossNamespaceVolumeDataSource is off.
        remove(obj, other);
    }
    let group = str_at(obj, "spec.dataSource.apiGroup");
    let known = match str_at(obj, "spec.dataSource.kind") {
        "PersistentVolumeClaim" => group.is_empty(),
        "VolumeSnapshot" => group == "snapshot.storage.k8s.io",
        _ => false,
    };
    if at(obj, other).is_none() && !known && !used {
        remove(obj, source);
    }
    match (at(obj, source).cloned(), at(obj, other).cloned()) {
        (Some(v), None) => set(obj, other, v),
        (None, Some(v)) => set(obj, source, v),
        _ => {}
    }
}

/// Checks a claim's spec at the current path; templates in pods use it too.
pub fn spec(spec: &Value, c: &mut Causes) {
    let access = list_at(spec, "accessModes");
    c.at("accessModes", |c| {
        if access.is_empty() {
            c.required("at least 1 access mode is required");
        }
        modes(access, c);
    });
    c.at("selector", |c| {
        selectors::label_selector(at(spec, "selector"), c)
    });
    c.at("resources", |c| {
        c.key("storage", |c| {
            let storage = map_at(spec, "resources.requests").and_then(|r| r.get("storage"));
            let Some(storage) = storage else {
                c.required("");
                return;
            };
            if let Some(q) = quantity::read(storage, c).filter(|q| q.sign() <= 0) {
                c.invalid(&json!(q.to_string()), "must be greater than zero");
            }
        });
    });
    checks::optional(spec, "storageClassName", names::dns1123_subdomain, c);
    checks::optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], c);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = at(spec, field) {
            c.at(field, |c| data_source(source, c));
        }
    }
    let (source, other) = (at(spec, "dataSource"), at(spec, "dataSourceRef"));
    if let (Some(source), Some(other)) = (source, other) {
        let same = ["kind", "name", "apiGroup"]
            .iter()
            .all(|f| str_at(source, f) == str_at(other, f));
        if !str_at(other, "namespace").is_empty() {
            c.invalid(
                &json!({}),
                "may not be specified when dataSourceRef.namespace is specified",
            );
        } else if !same {
            c.invalid(&json!({}), "must match dataSourceRef");
        }
    }
    checks::optional(
        spec,
        "volumeAttributesClassName",
        names::dns1123_subdomain,
        c,
    );
}

fn data_source(source: &Value, c: &mut Causes) {
    checks::present(source, "name", c);
    checks::present(source, "kind", c);
    let (group, kind) = (str_at(source, "apiGroup"), str_at(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        c.invalid(
            &json!(kind),
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
    checks::optional(source, "apiGroup", names::dns1123_subdomain, c);
    checks::optional(source, "namespace", names::dns1123_label, c);
}

fn changes(obj: &Value, before: &Value, causes: &mut Causes) {
    let (new, old) = (&obj["spec"], &before["spec"]);
    let wanted = neutral(obj, before);
    causes.at("spec", |c| {
        if !same::values(&wanted, old) {
            c.forbidden(format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                crate::diff::unified(old, &wanted)
            ));
        }
    });
    let annotation = |o| map_at(o, "metadata.annotations").and_then(|a| a.get(BETA_CLASS));
    let moved = annotation(obj).is_none()
        && annotation(before).is_some_and(|v| at(new, "storageClassName") == Some(v));
    if annotation(obj) != annotation(before) && !moved {
        let shown = annotation(obj).cloned().unwrap_or(json!(""));
        causes.at("metadata", |c| {
            c.at("annotations", |c| {
                c.at(BETA_CLASS, |c| c.invalid(&shown, checks::IMMUTABLE));
            });
        });
    }
    if shrinks(new, old, before) {
        causes.at("spec", |c| {
            c.at("resources", |c| {
                c.at("requests", |c| {
                    c.at("storage", |c| {
                        c.forbidden("field can not be less than status.capacity");
                    });
                });
            });
        });
    }
    if at(new, "volumeMode") != at(old, "volumeMode") {
        let mode = at(new, "volumeMode").cloned().unwrap_or_default();
        causes.at("volumeMode", |c| c.invalid(&mode, checks::IMMUTABLE));
    }
    attributes_class(obj, before, causes);
}

fn attributes_class(obj: &Value, before: &Value, causes: &mut Causes) {
    let class = |o| at(o, "spec.volumeAttributesClassName").and_then(Value::as_str);
    if at(before, "status.currentVolumeAttributesClassName").is_none()
        || class(obj) == class(before)
    {
        return;
    }
    let what = match class(obj) {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    causes.at("spec", |c| {
        c.at("volumeAttributesClassName", |c| {
            c.forbidden(format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"));
        });
    });
}

/// The new spec with everything that may change set back.
fn neutral(obj: &Value, before: &Value) -> Value {
    let (mut spec, old) = (obj["spec"].clone(), &before["spec"]);
    let back = |spec: &mut Value, path: &str| match at(old, path) {
        Some(v) => set(spec, path, v.clone()),
        None => {
            remove(spec, path);
        }
    };
    if str_at(old, "volumeName").is_empty() {
        back(&mut spec, "volumeName");
    }
    let beta = map_at(before, "metadata.annotations").and_then(|a| a.get(BETA_CLASS));
    let class_free = at(old, "storageClassName").is_none()
        && (beta.is_none() || beta == at(&spec, "storageClassName"));
    if class_free {
        back(&mut spec, "storageClassName");
    }
    if str_at(obj, "status.phase") == "Bound" {
        if at(old, "resources.requests.storage").is_some() {
            back(&mut spec, "resources.requests.storage");
        }
        back(&mut spec, "volumeAttributesClassName");
    }
    // Both sources are mirrored, so a mirror alone is no change.
    for field in ["dataSource", "dataSourceRef"] {
        if at(old, field).is_none() && at(&spec, "dataSource") == at(&spec, "dataSourceRef") {
            back(&mut spec, field);
        }
    }
    spec
}

fn shrinks(new: &Value, old: &Value, before: &Value) -> bool {
    let read = |v: Option<&Value>| v.and_then(super::amounts::read);
    let asked = |s| read(at(s, "resources.requests.storage"));
    let capacity = read(at(before, "status.capacity.storage"));
    match (asked(new), asked(old)) {
        (Some(n), Some(o)) if n < o => capacity.is_none_or(|have| n <= have),
        _ => false,
    }
}

fn status(obj: &Value, causes: &mut Causes) {
    if list_at(obj, "spec.accessModes").is_empty() {
        causes.at("Spec", |c| c.at("accessModes", |c| c.required("")));
    }
    causes.at("status", |c| {
        for (name, value) in map_at(obj, "status.capacity").into_iter().flatten() {
            c.at("capacity", |c| {
                c.key(name, |c| {
                    if let Some(q) = quantity::read(value, c).filter(|q| q.sign() < 0) {
                        c.invalid(&json!(q.to_string()), "must be a valid resource quantity");
                    }
                });
            });
        }
        for (name, value) in map_at(obj, "status.allocatedResourceStatuses")
            .into_iter()
            .flatten()
        {
            c.at("allocatedResourceStatus", |c| {
                c.key(name, |c| {
                    storage_key(name, c);
                    if !RESIZE_STATES.contains(&value.as_str().unwrap_or_default()) {
                        c.not_supported(&json!(name), RESIZE_STATES);
                    }
                });
            });
        }
        for (name, value) in map_at(obj, "status.allocatedResources")
            .into_iter()
            .flatten()
        {
            c.at("allocatedResources", |c| {
                c.key(name, |c| {
                    storage_key(name, c);
                    quantity::amount(name, value, c);
                });
            });
        }
    });
}

fn storage_key(name: &str, c: &mut Causes) {
    checks::all(name, names::qualified_name(name), c);
    if quantity::is_native(name) && name != "storage" {
        c.not_supported(&json!(name), &["storage"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(more: Value) -> Value {
        let mut obj = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        if let (Some(map), Value::Object(more)) = (obj["spec"].as_object_mut(), more) {
            map.extend(more);
        }
        PersistentVolumeClaim.set_defaults(&mut obj);
        obj
    }

    fn texts(obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut c = Causes::new();
        match before {
            Some(b) => PersistentVolumeClaim.validate_update(obj, b, &mut c),
            None => PersistentVolumeClaim.validate(obj, &mut c),
        }
        c.as_slice().iter().map(|c| c.text()).collect()
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        assert_eq!(texts(&claim(json!({})), None), Vec::<String>::new());
        for (more, expected) in [
            (
                json!({"accessModes": []}),
                "spec.accessModes: Required value: at least 1 access mode is required",
            ),
            (
                json!({"resources": {}}),
                "spec.resources[storage]: Required value",
            ),
            (
                json!({"dataSource": {"name": "a", "kind": "Pod"}}),
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ),
        ] {
            assert_eq!(texts(&claim(more), None), [expected]);
        }
    }

    #[test]
    fn only_bound_claims_grow() {
        let larger = json!({"resources": {"requests": {"storage": "2Gi"}}});
        let before = claim(json!({}));
        let found = texts(&claim(larger.clone()), Some(&before));
        assert!(found[0].starts_with("spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n@@"), "{found:?}");
        let bound = |mut o: Value| {
            o["status"]["phase"] = json!("Bound");
            o
        };
        assert_eq!(
            texts(&bound(claim(larger)), Some(&bound(before.clone()))),
            Vec::<String>::new()
        );
        let named = claim(json!({"volumeName": "v"}));
        assert_eq!(texts(&named, Some(&before)), Vec::<String>::new());
        let moved = claim(json!({"volumeName": "w"}));
        assert_eq!(texts(&moved, Some(&named)).len(), 1);
    }
}
