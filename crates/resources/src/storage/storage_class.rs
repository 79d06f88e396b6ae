//! StorageClass. Upstream: pkg/registry/storage/storageclass, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, list_at, map_at, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, rules};
use crate::cells;
use crate::checks::deprecated_label;
use crate::fields;

/// Annotations that make a class the default one.
const DEFAULT_NOTES: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

struct StorageClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "StorageClass",
        "storageclasses",
        Scope::Cluster,
        StorageClass,
    )
    .short(&["sc"])
}

impl Strategy for StorageClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "reclaimPolicy", json!("Delete"));
        set_default(obj, "volumeBindingMode", json!("Immediate"));
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::provisioner(obj, "provisioner", causes);
        rules::parameters(obj, false, causes);
        fields::enumerated(obj, "reclaimPolicy", &["Delete", "Retain"], causes);
        fields::required_enum(
            obj,
            "volumeBindingMode",
            &["Immediate", "WaitForFirstConsumer"],
            causes,
        );
        let terms = list_at(obj, "allowedTopologies");
        for (i, term) in terms.iter().enumerate() {
            causes.at("allowedTopologies", |c| {
                c.index(i, |c| {
                    c.at("matchLabelExpressions", |c| {
                        topology(term, c);
                        if terms[..i].contains(term) {
                            c.duplicate(&json!(""));
                        }
                    });
                });
            });
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        for field in [
            "parameters",
            "provisioner",
            "reclaimPolicy",
            "volumeBindingMode",
        ] {
            fields::frozen(obj, before, field, causes);
        }
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (i, term) in list_at(obj, "allowedTopologies").iter().enumerate() {
            let all = list_at(term, "matchLabelExpressions");
            for (j, e) in all.iter().enumerate() {
                if let Some(text) = deprecated_label(str_at(e, "key")) {
                    out.push(format!(
                        "allowedTopologies[{i}].matchLabelExpressions[{j}].key: {text}"
                    ));
                }
            }
        }
        out
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Provisioner"),
            Column::new("ReclaimPolicy"),
            Column::new("VolumeBindingMode"),
            Column::new("AllowVolumeExpansion"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let notes = map_at(obj, "metadata.annotations");
        let default = |n: &str| notes.and_then(|m| m.get(n)) == Some(&json!("true"));
        let mark = if DEFAULT_NOTES.iter().any(|n| default(n)) {
            " (default)"
        } else {
            ""
        };
        let or = |field, default: &str| match str_at(obj, field) {
            "" => json!(default),
            text => json!(text),
        };
        vec![
            json!(format!("{}{mark}", machinery::object::name(obj))),
            json!(str_at(obj, "provisioner")),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            json!(bool_at(obj, "allowVolumeExpansion").unwrap_or(false)),
            cells::age(obj, now),
        ]
    }
}

fn topology(term: &Value, c: &mut Causes) {
    let all = list_at(term, "matchLabelExpressions");
    for (i, e) in all.iter().enumerate() {
        c.index(i, |c| {
            let values = list_at(e, "values");
            c.at("values", |c| {
                if values.is_empty() {
                    c.required("");
                }
                for (j, v) in values.iter().enumerate() {
                    if values[..j].contains(v) {
                        c.index(j, |c| c.duplicate(v));
                    }
                }
            });
            c.at("key", |c| {
                let key = str_at(e, "key");
                fields::text(key, names::qualified_name, c);
                if all[..i].iter().any(|o| str_at(o, "key") == key) {
                    c.duplicate(&json!(key));
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        let mut good = json!({"metadata": {"name": "s", "annotations": {DEFAULT_NOTES[0]: "true"}}, "provisioner": "X.io/y"});
        StorageClass.set_defaults(&mut good);
        assert_eq!(texts(|c| StorageClass.validate(&good, c)), [""; 0]);
        assert_eq!(
            StorageClass.row(&good, Timestamp::UNIX_EPOCH)[0],
            "s (default)"
        );
        for (obj, expected) in [
            (
                json!({"volumeBindingMode": "Immediate"}),
                "provisioner: Required value",
            ),
            (
                json!({"provisioner": "a", "volumeBindingMode": "x"}),
                "volumeBindingMode: Unsupported value: \"x\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ),
            (
                json!({"provisioner": "a", "volumeBindingMode": "Immediate", "reclaimPolicy": "Recycle"}),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
        ] {
            assert_eq!(texts(|c| StorageClass.validate(&obj, c)), [expected]);
        }
        let mut other = good.clone();
        machinery::object::set(&mut other, "parameters.a", json!("b"));
        assert_eq!(
            texts(|c| StorageClass.validate_update(&other, &good, c)),
            ["parameters: Invalid value: null: field is immutable"]
        );
    }
}
