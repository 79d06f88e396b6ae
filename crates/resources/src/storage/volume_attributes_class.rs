//! VolumeAttributesClass. Upstream: pkg/registry/storage/volumeattributesclass, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, rules};
use crate::cells;

struct VolumeAttributesClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
        Scope::Cluster,
        VolumeAttributesClass,
    )
    .short(&["vac"])
}

impl Strategy for VolumeAttributesClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::provisioner(obj, "driverName", causes);
        rules::parameters(obj, true, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        for field in ["driverName", "parameters"] {
            if at(obj, field) != at(before, field) {
                causes.at(field, |c| {
                    c.forbidden(format!("updates to {field} are forbidden."));
                });
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("DriverName"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(str_at(obj, "driverName")),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn driver_and_parameters_are_there_and_stay() {
        assert_eq!(
            texts(|c| VolumeAttributesClass.validate(&json!({}), c)),
            [
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair"
            ]
        );
        let (old, new) = (
            json!({"driverName": "a.b", "parameters": {"a": "b"}}),
            json!({"driverName": "a.b", "parameters": {"a": "c"}}),
        );
        assert_eq!(
            texts(|c| VolumeAttributesClass.validate_update(&new, &old, c)),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }
}
