//! CSIStorageCapacity. Upstream: pkg/registry/storage/csistoragecapacity, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::str_at;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::{GROUP, rules};
use crate::cells;
use crate::fields;

struct CsiStorageCapacity;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "CSIStorageCapacity",
        "csistoragecapacities",
        Scope::Namespaced,
        CsiStorageCapacity,
    )
}

impl Strategy for CsiStorageCapacity {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        fields::label_selector(obj, "nodeTopology", causes);
        causes.at("storageClassName", |c| {
            fields::text(str_at(obj, "storageClassName"), names::dns1123_subdomain, c);
        });
        for field in ["capacity", "maximumVolumeSize"] {
            rules::quantity(obj, field, causes);
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        for field in ["nodeTopology", "storageClassName"] {
            fields::immutable(obj, before, field, causes);
        }
    }

    fn columns(&self) -> Vec<Column> {
        cells::default_columns()
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        vec![cells::name(obj), cells::created_at(obj)]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::texts;

    #[test]
    fn class_and_topology_stay() {
        let old = json!({"storageClassName": "a", "capacity": "1Gi"});
        assert_eq!(texts(|c| CsiStorageCapacity.validate(&old, c)), [""; 0]);
        let new = json!({"storageClassName": "b", "capacity": "-1"});
        assert_eq!(
            texts(|c| CsiStorageCapacity.validate_update(&new, &old, c)),
            [
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
                "storageClassName: Invalid value: \"b\": field is immutable"
            ]
        );
    }
}
