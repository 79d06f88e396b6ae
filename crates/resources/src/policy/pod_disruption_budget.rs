//! PodDisruptionBudget. Upstream: pkg/registry/policy/poddisruptionbudget, pkg/apis/policy.

use jiff::Timestamp;
use machinery::object::{at, list_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;
use crate::fields;

struct PodDisruptionBudget;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        Scope::Namespaced,
        PodDisruptionBudget,
    )
    .short(&["pdb"])
    .status()
}

impl Strategy for PodDisruptionBudget {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        api::names::path_segment(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            if at(spec, "minAvailable").is_some() && at(spec, "maxUnavailable").is_some() {
                let shown = fields::go_struct(&[
                    ("MinAvailable", at(spec, "minAvailable")),
                    ("Selector", at(spec, "selector")),
                    ("MaxUnavailable", at(spec, "maxUnavailable")),
                    (
                        "UnhealthyPodEvictionPolicy",
                        at(spec, "unhealthyPodEvictionPolicy"),
                    ),
                ]);
                fields::invalid_shown(
                    c,
                    Some(&shown),
                    "minAvailable and maxUnavailable cannot be both set",
                );
            }
            for field in ["minAvailable", "maxUnavailable"] {
                fields::int_or_percent(spec, field, c);
                fields::at_most_hundred_percent(spec, field, c);
            }
            fields::label_selector(spec, "selector", c);
            fields::enumerated(
                spec,
                "unhealthyPodEvictionPolicy",
                &["AlwaysAllow", "IfHealthyBudget"],
                c,
            );
        });
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status", |c| {
            c.at("conditions", |c| {
                fields::conditions(list_at(obj, "status.conditions"), c);
            });
            let status = obj.get("status").unwrap_or(&Value::Null);
            fields::non_negative(
                status,
                &[
                    "disruptionsAllowed",
                    "currentHealthy",
                    "desiredHealthy",
                    "expectedPods",
                ],
                c,
            );
        });
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Min Available"),
            Column::new("Max Unavailable"),
            Column::integer("Allowed Disruptions"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let cell = |path: &str| match at(obj, path) {
            None => json!("N/A"),
            Some(Value::String(s)) => json!(s),
            Some(n) => json!(n.to_string()),
        };
        vec![
            cells::name(obj),
            cell("spec.minAvailable"),
            cell("spec.maxUnavailable"),
            cells::integer(obj, "status.disruptionsAllowed"),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        for (spec, expected) in [
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (
                json!({"minAvailable": "101%"}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"maxUnavailable": -1}),
                "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "x"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ),
        ] {
            let found = texts(|c| PodDisruptionBudget.validate(&json!({"spec": spec}), c));
            assert_eq!(found, [expected]);
        }
        let status = json!({"status": {"disruptionsAllowed": -1}});
        assert_eq!(
            texts(|c| PodDisruptionBudget.validate_status_update(&status, &status, c)),
            ["status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0"]
        );
    }
}
