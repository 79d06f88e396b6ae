//! PriorityClass. Upstream: pkg/registry/scheduling/priorityclass, pkg/apis/scheduling.

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, i64_at, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;
use crate::fields;

/// The classes the system makes, with value and description; no others may have its prefix.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];
const SYSTEM_PREFIX: &str = "system-";
/// Highest value of classes that users make.
const VALUE_MAX: i64 = 1_000_000_000;

struct PriorityClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
        Scope::Cluster,
        PriorityClass,
    )
    .short(&["pc"])
}

/// The classes of the system as objects.
pub fn system_objects() -> Vec<Value> {
    let one = |(name, value, description): &(&str, i64, &str)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description})
    };
    SYSTEM.iter().map(one).collect()
}

/// Why a class with the system's prefix is none of the system's.
fn foreign(name: &str, value: i64, default: bool) -> Option<String> {
    let Some((_, known, _)) = SYSTEM.iter().find(|(n, ..)| *n == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *known {
        return Some(format!("value of {name} PriorityClass must be {known}"));
    }
    default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

impl Strategy for PriorityClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "preemptionPolicy", json!("PreemptLowerPriority"));
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, _obj: &Value, _before: &Value) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let name = machinery::object::name(obj);
        let value = i64_at(obj, "value").unwrap_or(0);
        let default = bool_at(obj, "globalDefault").unwrap_or(false);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = foreign(name, value, default) {
                causes.at("metadata.name", |c| {
                    c.forbidden(format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"));
                });
            }
        } else if value > VALUE_MAX {
            causes.at("value", |c| {
                c.forbidden(format!(
                    "maximum allowed value of a user defined priority is {VALUE_MAX}"
                ));
            });
        }
        fields::enumerated(
            obj,
            "preemptionPolicy",
            &["PreemptLowerPriority", "Never"],
            causes,
        );
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let value = |o: &Value| i64_at(o, "value").unwrap_or(0);
        if value(obj) != value(before) {
            causes.at("value", |c| c.forbidden("may not be changed in an update."));
        }
        fields::immutable(obj, before, "preemptionPolicy", causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Value"),
            Column {
                kind: "boolean".into(),
                ..Column::new("Global-Default")
            },
            Column::new("Age"),
            Column::new("PreemptionPolicy"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            cells::integer(obj, "value"),
            json!(bool_at(obj, "globalDefault").unwrap_or(false)),
            cells::age(obj, now),
            json!(str_at(obj, "preemptionPolicy")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn names_and_values_of_the_system_are_reserved() {
        for (obj, expected) in [
            (
                json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
                None,
            ),
            (
                json!({"metadata": {"name": "a"}, "value": 1_000_000_000}),
                None,
            ),
            (
                json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
                Some(
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ),
            ),
            (
                json!({"metadata": {"name": "system-x"}}),
                Some(
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
                ),
            ),
            (
                json!({"metadata": {"name": "system-cluster-critical"}, "value": 1}),
                Some(
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-cluster-critical PriorityClass must be 2000000000",
                ),
            ),
            (
                json!({"metadata": {"name": "a"}, "preemptionPolicy": "x"}),
                Some(
                    "preemptionPolicy: Unsupported value: \"x\": supported values: \"PreemptLowerPriority\", \"Never\"",
                ),
            ),
        ] {
            let found = texts(|c| PriorityClass.validate(&obj, c));
            assert_eq!(found.first().map(String::as_str), expected);
        }
        let (old, new) = (
            json!({"value": 1, "preemptionPolicy": "Never"}),
            json!({"value": 2, "preemptionPolicy": "PreemptLowerPriority"}),
        );
        assert_eq!(
            texts(|c| PriorityClass.validate_update(&new, &old, c)),
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"PreemptLowerPriority\": field is immutable"
            ]
        );
    }
}
