//! HorizontalPodAutoscaler, autoscaling/v2: the version that is stored.
//! Upstream: pkg/registry/autoscaling/horizontalpodautoscaler, pkg/apis/autoscaling.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, metrics};
use crate::cells;
use crate::fields;

const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

struct HorizontalPodAutoscaler;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    descriptor("v2", HorizontalPodAutoscaler)
}

/// The descriptor of one version.
pub fn descriptor(version: &'static str, strategy: impl Strategy) -> Descriptor {
    Descriptor::new(
        GROUP,
        version,
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        Scope::Namespaced,
        strategy,
    )
    .short(&["hpa"])
    .category(&["all"])
    .status()
}

/// Defaults of v2.
pub fn set_defaults(obj: &mut Value) {
    set_default(obj, "spec.minReplicas", json!(1));
    if list_at(obj, "spec.metrics").is_empty() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        set(obj, "spec.metrics", json!([cpu]));
    }
    if at(obj, "spec.behavior").is_none() {
        return;
    }
    let fast = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    set_default(
        obj,
        "spec.behavior.scaleUp.stabilizationWindowSeconds",
        json!(0),
    );
    for (rules, policies) in [
        ("scaleUp", json!([fast, percent])),
        ("scaleDown", json!([percent])),
    ] {
        let path = |field: &str| format!("spec.behavior.{rules}.{field}");
        set_default(obj, &path("selectPolicy"), json!("Max"));
        if at(obj, &path("policies")).is_none() {
            set(obj, &path("policies"), policies);
        }
    }
}

/// Checks a v2 object; `before` is what it was.
pub fn validate(obj: &Value, before: Option<&Value>, causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    let old = before.and_then(|b| b.get("spec"));
    causes.at("spec", |c| {
        let (min, max) = (
            i64_at(spec, "minReplicas"),
            i64_at(spec, "maxReplicas").unwrap_or(0),
        );
        if min.is_some_and(|min| max < min) {
            c.at("maxReplicas", |c| {
                c.invalid(
                    &json!(max),
                    "must be greater than or equal to `minReplicas`",
                );
            });
        }
        let reference = |s: &Value| {
            let text = |field: &str| str_at(s, &format!("scaleTargetRef.{field}")).to_string();
            (text("apiVersion"), text("kind"))
        };
        let same = old.is_some_and(|old| reference(old) == reference(spec));
        let target = at(spec, "scaleTargetRef").unwrap_or(&Value::Null);
        c.at("scaleTargetRef", |c| {
            metrics::object_reference(target, same, c);
        });
        c.at("metrics", |c| metrics::validate(spec, c));
        for rules in ["scaleUp", "scaleDown"] {
            if let Some(rules_value) = at(spec, &format!("behavior.{rules}")) {
                c.at("behavior", |c| {
                    c.at(rules, |c| scaling_rules(rules_value, c));
                });
            }
        }
        let zero = old.and_then(|o| i64_at(o, "minReplicas")) == Some(0);
        let least = i64::from(!zero);
        let text = format!("must be greater than or equal to {least}");
        fields::at_least(spec, "minReplicas", least, &text, c);
        if max == 0 {
            c.at("maxReplicas", |c| c.required(""));
        }
        fields::at_least(
            spec,
            "maxReplicas",
            0,
            "must be greater than or equal to 1",
            c,
        );
    });
}

/// Checks the counts of a status.
pub fn validate_status(obj: &Value, causes: &mut Causes) {
    let status = obj.get("status").unwrap_or(&Value::Null);
    causes.at("status", |c| {
        fields::non_negative(status, &["currentReplicas", "desiredReplicas"], c);
    });
}

/// The table's columns.
pub fn columns() -> Vec<Column> {
    [
        "Reference",
        "Targets",
        "MinPods",
        "MaxPods",
        "Replicas",
        "Age",
    ]
    .into_iter()
    .fold(vec![Column::name()], |mut all, name| {
        all.push(Column::new(name));
        all
    })
}

/// The row of a v2 object.
pub fn row(obj: &Value, now: Timestamp) -> Row {
    let reference = format!(
        "{}/{}",
        str_at(obj, "spec.scaleTargetRef.kind"),
        str_at(obj, "spec.scaleTargetRef.name")
    );
    let min = i64_at(obj, "spec.minReplicas");
    vec![
        cells::name(obj),
        json!(reference),
        json!(metrics::cell(obj)),
        json!(min.map_or_else(|| "<unset>".to_string(), |n| n.to_string())),
        cells::integer(obj, "spec.maxReplicas"),
        cells::integer(obj, "status.currentReplicas"),
        cells::age(obj, now),
    ]
}

impl Strategy for HorizontalPodAutoscaler {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_defaults(obj);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        validate(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        validate(obj, Some(before), causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        validate_status(obj, causes);
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        row(obj, now)
    }
}

fn scaling_rules(rules: &Value, c: &mut Causes) {
    fields::at_least(
        rules,
        "stabilizationWindowSeconds",
        0,
        "must be greater than or equal to zero",
        c,
    );
    fields::at_most(
        rules,
        "stabilizationWindowSeconds",
        WINDOW_MAX,
        "must be less than or equal to 3600",
        c,
    );
    fields::enumerated(rules, "selectPolicy", &["Disabled", "Max", "Min"], c);
    let policies = list_at(rules, "policies");
    c.at("policies", |c| {
        if policies.is_empty() {
            c.required("must specify at least one Policy");
        }
        for (i, policy) in policies.iter().enumerate() {
            c.index(i, |c| {
                let kind = str_at(policy, "type");
                if !["Percent", "Pods"].contains(&kind) {
                    c.at("type", |c| {
                        fields::unsupported(c, &json!(kind), &["Percent", "Pods"]);
                    });
                }
                for field in ["value", "periodSeconds"] {
                    let n = i64_at(policy, field).unwrap_or(0);
                    if n <= 0 {
                        c.at(field, |c| c.invalid(&json!(n), fields::POSITIVE));
                    }
                }
                fields::at_most(
                    policy,
                    "periodSeconds",
                    PERIOD_MAX,
                    "must be less than or equal to 1800",
                    c,
                );
            });
        }
    });
    metrics::non_negative_quantity(rules, "tolerance", c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
        set_defaults(&mut obj);
        obj
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| validate(&good(), None, c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec.maxReplicas",
                json!(0),
                vec![
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                    "spec.maxReplicas: Required value",
                ],
            ),
            (
                "spec.minReplicas",
                json!(0),
                vec![
                    "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
                    "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                ],
            ),
            (
                "spec.scaleTargetRef.apiVersion",
                json!("v1"),
                vec![
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
                ],
            ),
            (
                "spec.metrics",
                json!([{"type": "Pods"}]),
                vec![
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                ],
            ),
            (
                "spec.metrics",
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]),
                vec![
                    "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
                ],
            ),
            (
                "spec.behavior.scaleUp",
                json!({"policies": []}),
                vec![
                    "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                ],
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            assert_eq!(texts(|c| validate(&obj, None, c)), expected, "{path}");
        }
    }

    #[test]
    fn targets_show_current_over_wanted() {
        let mut obj = good();
        assert_eq!(row(&obj, Timestamp::UNIX_EPOCH)[2], "cpu: <unknown>/80%");
        set(
            &mut obj,
            "status.currentMetrics",
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50}}}]),
        );
        assert_eq!(row(&obj, Timestamp::UNIX_EPOCH)[2], "cpu: 50%/80%");
    }
}
