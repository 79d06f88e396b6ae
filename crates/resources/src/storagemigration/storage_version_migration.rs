//! StorageVersionMigration. Upstream: pkg/registry/storagemigration, pkg/apis/storagemigration.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use crate::fields;

struct StorageVersionMigration;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
        Scope::Cluster,
        StorageVersionMigration,
    )
    .status()
}

impl Strategy for StorageVersionMigration {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let resource = at(obj, "spec.resource").unwrap_or(&Value::Null);
        causes.at("spec.resource", |c| {
            let name = str_at(resource, "resource");
            c.at("resource", |c| {
                if name.is_empty() {
                    c.required("resource is required to be set");
                } else {
                    fields::text(name, names::dns1035_label, c);
                }
            });
            fields::optional_text(resource, "group", names::dns1123_subdomain, c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        causes.at("status", |c| {
            let version = |o: &Value| str_at(o, "status.resourceVersion").to_string();
            let (new, old) = (version(obj), version(before));
            c.at("resourceVersion", |c| {
                if !new.is_empty() && new.parse::<u64>().is_err() {
                    c.invalid(
                        &json!(new),
                        format!("resource version is not well formed: {new}"),
                    );
                }
                if !old.is_empty() && new != old {
                    c.invalid(&json!(new), fields::IMMUTABLE);
                }
            });
            c.at("conditions", |c| {
                fields::conditions(list_at(obj, "status.conditions"), c);
                outcome(obj, before, c);
            });
        });
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::new("Name"),
            Column::new("Resource"),
            Column::new("Status"),
        ]
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let (name, group) = (
            str_at(obj, "spec.resource.resource"),
            str_at(obj, "spec.resource.group"),
        );
        let resource = if group.is_empty() {
            name.to_string()
        } else {
            format!("{name}.{group}")
        };
        let state = list_at(obj, "status.conditions")
            .iter()
            .rfind(|c| {
                str_at(c, "status") == "True"
                    && ["Running", "Failed", "Succeeded"].contains(&str_at(c, "type"))
            })
            .map_or("Unknown", |c| str_at(c, "type"));
        vec![
            json!(machinery::object::name(obj)),
            json!(resource),
            json!(state),
        ]
    }
}

fn is(obj: &Value, kind: &str) -> bool {
    list_at(obj, "status.conditions")
        .iter()
        .any(|c| str_at(c, "type") == kind && str_at(c, "status") == "True")
}

fn outcome(obj: &Value, before: &Value, c: &mut Causes) {
    let shown = json!(list_at(obj, "status.conditions"));
    if is(obj, "Succeeded") && is(obj, "Failed") {
        c.invalid(
            &shown,
            "Both success and failed conditions cannot be true at the same time",
        );
    }
    for (kind, text) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if is(before, kind) && !is(obj, kind) {
            c.invalid(
                &shown,
                format!("{text} condition cannot be set to false once it is true"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn the_resource_is_named_and_stays() {
        let good = json!({"spec": {"resource": {"resource": "pods"}}});
        assert_eq!(
            texts(|c| StorageVersionMigration.validate(&good, c)),
            [""; 0]
        );
        assert_eq!(
            texts(|c| StorageVersionMigration.validate(&json!({}), c)),
            ["spec.resource.resource: Required value: resource is required to be set"]
        );
        let old = json!({"status": {"resourceVersion": "5"}});
        let new = json!({"status": {"resourceVersion": "6"}});
        assert_eq!(
            texts(|c| StorageVersionMigration.validate_status_update(&new, &old, c)),
            ["status.resourceVersion: Invalid value: \"6\": field is immutable"]
        );
    }
}
