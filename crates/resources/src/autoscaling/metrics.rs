//! The metrics an autoscaler looks at: checks and cells. Upstream: pkg/apis/autoscaling/validation,
//! formatHPAMetrics of the printers.

use api::names;
use api::quantity::Quantity;
use machinery::Causes;
use machinery::object::{at, i64_at, list_at, str_at};
use serde_json::{Value, json};

use crate::fields;

const TYPES: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
/// Where a source is, in the order in which upstream looks for them.
const SOURCES: &[&str] = &[
    "object",
    "external",
    "pods",
    "resource",
    "containerResource",
];

/// Checks a reference to a scaled object; `known` lets its apiVersion be as it was.
pub fn object_reference(reference: &Value, known: bool, c: &mut Causes) {
    fields::required_segment(reference, "kind", c);
    fields::required_segment(reference, "name", c);
    if known {
        return;
    }
    let version = str_at(reference, "apiVersion");
    let problem = match version.split('/').count() {
        1 if str_at(reference, "kind") != "ReplicationController" => {
            Some("apiVersion must specify API group".to_string())
        }
        1 | 2 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    };
    if let Some(problem) = problem {
        c.at("apiVersion", |c| c.invalid(&json!(version), problem));
    }
}

/// Checks the metrics of a spec at the current path.
pub fn validate(spec: &Value, c: &mut Causes) {
    let all = list_at(spec, "metrics");
    for (i, metric) in all.iter().enumerate() {
        c.index(i, |c| one(metric, c));
    }
    let outside = |m: &Value| ["Object", "External"].contains(&str_at(m, "type"));
    if i64_at(spec, "minReplicas") == Some(0) && !all.iter().any(outside) {
        c.forbidden(
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
}

fn one(metric: &Value, c: &mut Causes) {
    let kind = str_at(metric, "type");
    let unknown = !TYPES.contains(&kind);
    c.at("type", |c| {
        if kind.is_empty() {
            c.required("must specify a metric source type");
        }
        if unknown {
            fields::unsupported(c, &json!(kind), TYPES);
        }
    });
    let mut present: Vec<&str> = SOURCES
        .iter()
        .copied()
        .filter(|s| at(metric, s).is_some())
        .collect();
    if let Some(first) = present.first() {
        let source = at(metric, first).unwrap_or(&Value::Null);
        c.at(first, |c| source_rules(first, source, c));
    }
    let expected = lower_first(kind);
    if unknown {
        c.at("type", |c| fields::unsupported(c, &json!(kind), TYPES));
    } else if at(metric, &expected).is_none() {
        c.at(&expected, |c| {
            c.required("must populate information for the given metric source");
        });
    }
    if present.len() != 1 {
        present.retain(|s| *s != expected);
        for other in present {
            c.at(other, |c| {
                c.forbidden("must populate the given metric source only");
            });
        }
    }
}

fn lower_first(kind: &str) -> String {
    let mut chars = kind.chars();
    chars.next().map_or_else(String::new, |c| {
        format!("{}{}", c.to_lowercase(), chars.as_str())
    })
}

fn source_rules(which: &str, source: &Value, c: &mut Causes) {
    let target = at(source, "target").unwrap_or(&Value::Null);
    match which {
        "resource" | "containerResource" => {
            named(source, "name", "must specify a resource name", c);
            if which == "containerResource" {
                named(source, "container", "must specify a container", c);
                fields::optional_text(source, "container", names::dns1123_label, c);
            }
        }
        _ => {
            if which == "object" {
                let described = at(source, "describedObject").unwrap_or(&Value::Null);
                c.at("describedObject", |c| object_reference(described, false, c));
            }
            let metric = at(source, "metric").unwrap_or(&Value::Null);
            c.at("metric", |c| {
                named(metric, "name", "must specify a metric name", c);
                fields::optional_text(metric, "name", fields::segment, c);
            });
        }
    }
    c.at("target", |c| {
        target_rules(target, c);
        target_choice(which, target, c);
    });
}

fn named(obj: &Value, field: &str, text: &str, c: &mut Causes) {
    if str_at(obj, field).is_empty() {
        c.at(field, |c| c.required(text));
    }
}

fn target_rules(target: &Value, c: &mut Causes) {
    let kind = str_at(target, "type");
    if kind.is_empty() {
        c.at("type", |c| c.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        c.at("type", |c| {
            c.invalid(
                &json!(kind),
                "must be either Utilization, Value, or AverageValue",
            );
        });
    }
    for field in ["value", "averageValue"] {
        let Some(value) = at(target, field) else {
            continue;
        };
        let text = quantity_text(value);
        c.at(field, |c| match Quantity::parse(&text) {
            Ok(q) if q.sign() > 0 => {}
            Ok(_) => c.invalid(&json!(text), "must be positive"),
            Err(e) => c.invalid(&json!(text), e.to_string()),
        });
    }
    fields::at_least(target, "averageUtilization", 1, "must be greater than 0", c);
}

/// Which of the target's values a source needs.
fn target_choice(which: &str, target: &Value, c: &mut Causes) {
    let has = |field| at(target, field).is_some();
    let (value, average, utilization) =
        (has("value"), has("averageValue"), has("averageUtilization"));
    match which {
        "object" if !value && !average => c.at("averageValue", |c| {
            c.required("must set either a target value or averageValue");
        }),
        "external" if !value && !average => c.at("averageValue", |c| {
            c.required("must set either a target value for metric or a per-pod target");
        }),
        "external" if value && average => c.at("value", |c| {
            c.forbidden("may not set both a target value for metric and a per-pod target");
        }),
        "pods" if !average => c.at("averageValue", |c| {
            c.required("must specify a positive target averageValue");
        }),
        "resource" | "containerResource" if !utilization && !average => {
            c.at("averageUtilization", |c| {
                c.required("must set either a target raw value or a target utilization");
            });
        }
        "resource" | "containerResource" if utilization && average => {
            c.at("averageValue", |c| {
                c.forbidden("may not set both a target raw value and a target utilization");
            });
        }
        _ => {}
    }
}

/// A quantity that, where it is, may not be negative.
pub fn non_negative_quantity(obj: &Value, field: &str, c: &mut Causes) {
    let Some(value) = at(obj, field) else { return };
    let text = quantity_text(value);
    if Quantity::parse(&text).is_ok_and(|q| q.sign() < 0) {
        c.at(field, |c| c.invalid(&json!(text), fields::NON_NEGATIVE));
    }
}

fn quantity_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

/// The Targets cell of an autoscaler.
pub fn cell(obj: &Value) -> String {
    let all = list_at(obj, "spec.metrics");
    if all.is_empty() {
        return "<none>".into();
    }
    let current = list_at(obj, "status.currentMetrics");
    let texts: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(i, metric)| target_text(metric, current.get(i)))
        .collect();
    let shown = texts.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
    match texts.len() {
        0..=2 => shown,
        n => format!("{shown} + {} more...", n - 2),
    }
}

fn target_text(metric: &Value, current: Option<&Value>) -> String {
    let kind = str_at(metric, "type");
    let source = lower_first(kind);
    let target = |field: &str| at(metric, &format!("{source}.target.{field}"));
    let entry = current.and_then(|c| at(c, &source));
    let now = |field: &str| entry.and_then(|e| at(e, &format!("current.{field}")));
    let text = |v: Option<&Value>| v.map_or_else(|| "<nil>".to_string(), quantity_text);
    let or_unknown = |v: Option<&Value>| v.map_or_else(|| "<unknown>".to_string(), quantity_text);
    let seen = |v: Option<&Value>| match entry {
        None => "<unknown>".to_string(),
        Some(_) => text(v),
    };
    match kind {
        "External" | "Object" => match target("averageValue") {
            Some(wanted) => format!(
                "{}/{} (avg)",
                or_unknown(now("averageValue")),
                quantity_text(wanted)
            ),
            None => format!("{}/{}", seen(now("value")), text(target("value"))),
        },
        "Pods" => format!(
            "{}/{}",
            seen(now("averageValue")),
            text(target("averageValue"))
        ),
        "Resource" | "ContainerResource" => {
            let name = str_at(metric, &format!("{source}.name"));
            if let Some(wanted) = target("averageValue") {
                return format!(
                    "{name}: {}/{}",
                    seen(now("averageValue")),
                    quantity_text(wanted)
                );
            }
            let percent = |v: Option<&Value>, none: &str| {
                v.map_or_else(|| none.to_string(), |n| format!("{n}%"))
            };
            format!(
                "{name}: {}/{}",
                percent(now("averageUtilization"), "<unknown>"),
                percent(target("averageUtilization"), "<auto>")
            )
        }
        _ => "<unknown type>".into(),
    }
}
