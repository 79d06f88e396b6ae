//! autoscaling/v1 and v2 of one autoscaler: what v1 has no field for lives in annotations there.
//! Upstream: pkg/apis/autoscaling/v1/conversion.go.

use machinery::object::{at, i64_at, list_at, map_at, map_mut, remove, set, str_at};
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Turns a v2 object into v1.
pub fn to_v1(obj: &mut Value) {
    set(obj, "apiVersion", json!("autoscaling/v1"));
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        take_note(obj, key);
    }
    let metrics = list_at(obj, "spec.metrics").to_vec();
    remove(obj, "spec.metrics");
    let cpu = metrics.iter().find(|m| is_cpu(m));
    let others: Vec<Value> = metrics
        .iter()
        .filter(|m| !is_utilization(m))
        .map(source_to_v1)
        .collect();
    if let Some(n) = cpu.and_then(|m| at(m, "resource.target.averageUtilization")) {
        set(obj, "spec.targetCPUUtilizationPercentage", n.clone());
    }
    put_note(obj, METRICS, &others);
    if let Some(behavior) = remove(obj, "spec.behavior") {
        note(obj, BEHAVIOR, behavior_names(&behavior, true).to_string());
    }
    let current = list_at(obj, "status.currentMetrics").to_vec();
    remove(obj, "status.currentMetrics");
    let cpu = current.iter().find(|m| is_cpu(m));
    if let Some(n) = cpu.and_then(|m| at(m, "resource.current.averageUtilization")) {
        set(obj, "status.currentCPUUtilizationPercentage", n.clone());
    }
    let current: Vec<Value> = current.iter().map(status_to_v1).collect();
    put_note(obj, CURRENT_METRICS, &current);
    let conditions = list_at(obj, "status.conditions").to_vec();
    remove(obj, "status.conditions");
    put_note(obj, CONDITIONS, &conditions);
}

/// Turns a v1 object into v2.
pub fn to_v2(obj: &mut Value) {
    set(obj, "apiVersion", json!("autoscaling/v2"));
    let mut metrics: Vec<Value> = take_list(obj, METRICS)
        .unwrap_or_default()
        .iter()
        .map(source_to_v2)
        .collect();
    if let Some(n) = remove(obj, "spec.targetCPUUtilizationPercentage").filter(|n| !n.is_null()) {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": n}}}));
    }
    if !metrics.is_empty() {
        set(obj, "spec.metrics", json!(metrics));
    }
    let behavior = take_note(obj, BEHAVIOR)
        .and_then(|t| serde_json::from_str::<Value>(&t).ok())
        .filter(|b| b.as_object().is_some_and(|m| !m.is_empty()));
    if let Some(behavior) = behavior {
        set(obj, "spec.behavior", behavior_names(&behavior, false));
    }
    let percent = remove(obj, "status.currentCPUUtilizationPercentage").filter(|n| !n.is_null());
    if let Some(current) = take_list(obj, CURRENT_METRICS) {
        let current: Vec<Value> = current.iter().map(status_to_v2).collect();
        set(obj, "status.currentMetrics", json!(current));
    } else if let Some(n) = percent {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": n}}});
        set(obj, "status.currentMetrics", json!([cpu]));
    }
    if let Some(conditions) = take_list(obj, CONDITIONS) {
        set(obj, "status.conditions", json!(conditions));
    }
}

fn is_cpu(metric: &Value) -> bool {
    str_at(metric, "type") == "Resource" && str_at(metric, "resource.name") == "cpu"
}

fn is_utilization(metric: &Value) -> bool {
    is_cpu(metric) && at(metric, "resource.target.averageUtilization").is_some()
}

fn note(obj: &mut Value, key: &str, text: String) {
    map_mut(obj, "metadata.annotations").insert(key.into(), json!(text));
}

fn put_note(obj: &mut Value, key: &str, list: &[Value]) {
    if !list.is_empty() {
        note(obj, key, json!(list).to_string());
    }
}

/// Removes an annotation and gives it; no empty map is left behind.
fn take_note(obj: &mut Value, key: &str) -> Option<String> {
    map_at(obj, "metadata.annotations")?;
    let notes = map_mut(obj, "metadata.annotations");
    let text = notes.remove(key)?.as_str()?.to_string();
    if notes.is_empty() {
        remove(obj, "metadata.annotations");
    }
    Some(text)
}

fn take_list(obj: &mut Value, key: &str) -> Option<Vec<Value>> {
    serde_json::from_str(&take_note(obj, key)?).ok()
}

/// The names of the internal structure, in which the behaviour is noted, or those of v2.
fn behavior_names(value: &Value, upper: bool) -> Value {
    let rename = |key: &str| {
        let mut chars = key.chars();
        let first = chars.next().map_or_else(String::new, |c| {
            if upper {
                c.to_uppercase().collect()
            } else {
                c.to_lowercase().collect()
            }
        });
        format!("{first}{}", chars.as_str())
    };
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| upper || !v.is_null());
            Value::Object(
                kept.map(|(k, v)| (rename(k), behavior_names(v, upper)))
                    .collect(),
            )
        }
        Value::Array(list) => list.iter().map(|v| behavior_names(v, upper)).collect(),
        other => other.clone(),
    }
}

/// Builds an object of the fields that are there.
fn build(fields: &[(&str, Option<Value>)]) -> Value {
    let kept = fields.iter().filter_map(|(k, v)| {
        let v = v.clone().filter(|v| !v.is_null())?;
        Some(((*k).to_string(), v))
    });
    Value::Object(kept.collect::<Map<_, _>>())
}

fn get(obj: &Value, path: &str) -> Option<Value> {
    at(obj, path).cloned()
}

/// The name of the source's field and the source.
fn source(metric: &Value) -> (&'static str, Value) {
    let field = match str_at(metric, "type") {
        "Object" => "object",
        "Pods" => "pods",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "resource",
    };
    (field, at(metric, field).cloned().unwrap_or_default())
}

fn whole(metric: &Value, field: &str, source: Value) -> Value {
    build(&[("type", get(metric, "type")), (field, Some(source))])
}

fn source_to_v1(metric: &Value) -> Value {
    let (field, s) = source(metric);
    let made = match field {
        "object" => build(&[
            ("target", get(&s, "describedObject")),
            ("metricName", get(&s, "metric.name")),
            ("targetValue", get(&s, "target.value").or(Some(json!("0")))),
            ("selector", get(&s, "metric.selector")),
            ("averageValue", get(&s, "target.averageValue")),
        ]),
        "pods" => build(&[
            ("metricName", get(&s, "metric.name")),
            ("targetAverageValue", get(&s, "target.averageValue")),
            ("selector", get(&s, "metric.selector")),
        ]),
        "external" => build(&[
            ("metricName", get(&s, "metric.name")),
            ("metricSelector", get(&s, "metric.selector")),
            ("targetValue", get(&s, "target.value")),
            ("targetAverageValue", get(&s, "target.averageValue")),
        ]),
        _ => build(&[
            ("name", get(&s, "name")),
            ("container", get(&s, "container")),
            (
                "targetAverageUtilization",
                get(&s, "target.averageUtilization"),
            ),
            ("targetAverageValue", get(&s, "target.averageValue")),
        ]),
    };
    whole(metric, field, made)
}

fn source_to_v2(metric: &Value) -> Value {
    let (field, s) = source(metric);
    let kind = |first: bool, yes: &str, no: &str| Some(json!(if first { yes } else { no }));
    let identity = |selector: &str| {
        build(&[
            ("name", get(&s, "metricName")),
            ("selector", get(&s, selector)),
        ])
    };
    let made = match field {
        "object" => {
            let average = get(&s, "averageValue");
            let zero = |v: &Value| v.as_str() == Some("0") || v.as_i64() == Some(0);
            let value = get(&s, "targetValue").filter(|v| average.is_none() || !zero(v));
            let target = build(&[
                ("type", kind(average.is_none(), "Value", "AverageValue")),
                ("value", value),
                ("averageValue", average),
            ]);
            json!({"describedObject": get(&s, "target"), "metric": identity("selector"), "target": target})
        }
        "pods" => {
            let target = build(&[
                ("type", Some(json!("AverageValue"))),
                ("averageValue", get(&s, "targetAverageValue")),
            ]);
            json!({"metric": identity("selector"), "target": target})
        }
        "external" => {
            let value = get(&s, "targetValue");
            let target = build(&[
                ("type", kind(value.is_some(), "Value", "AverageValue")),
                ("value", value),
                ("averageValue", get(&s, "targetAverageValue")),
            ]);
            json!({"metric": identity("metricSelector"), "target": target})
        }
        _ => {
            let n = i64_at(&s, "targetAverageUtilization");
            let target = build(&[
                ("type", kind(n.is_some(), "Utilization", "AverageValue")),
                ("averageUtilization", n.map(|n| json!(n))),
                ("averageValue", get(&s, "targetAverageValue")),
            ]);
            build(&[
                ("name", get(&s, "name")),
                ("container", get(&s, "container")),
                ("target", Some(target)),
            ])
        }
    };
    whole(metric, field, made)
}

fn status_to_v1(metric: &Value) -> Value {
    let (field, s) = source(metric);
    let made = match field {
        "object" => build(&[
            ("target", get(&s, "describedObject")),
            ("metricName", get(&s, "metric.name")),
            (
                "currentValue",
                get(&s, "current.value").or(Some(json!("0"))),
            ),
            ("selector", get(&s, "metric.selector")),
            ("averageValue", get(&s, "current.averageValue")),
        ]),
        "pods" => build(&[
            ("metricName", get(&s, "metric.name")),
            ("currentAverageValue", get(&s, "current.averageValue")),
            ("selector", get(&s, "metric.selector")),
        ]),
        "external" => build(&[
            ("metricName", get(&s, "metric.name")),
            ("metricSelector", get(&s, "metric.selector")),
            (
                "currentValue",
                get(&s, "current.value").or(Some(json!("0"))),
            ),
            ("currentAverageValue", get(&s, "current.averageValue")),
        ]),
        _ => build(&[
            ("name", get(&s, "name")),
            ("container", get(&s, "container")),
            (
                "currentAverageUtilization",
                get(&s, "current.averageUtilization"),
            ),
            (
                "currentAverageValue",
                get(&s, "current.averageValue").or(Some(json!("0"))),
            ),
        ]),
    };
    whole(metric, field, made)
}

fn status_to_v2(metric: &Value) -> Value {
    let (field, s) = source(metric);
    let identity = |selector: &str| {
        build(&[
            ("name", get(&s, "metricName")),
            ("selector", get(&s, selector)),
        ])
    };
    let made = match field {
        "object" => {
            let current = build(&[
                ("value", get(&s, "currentValue")),
                ("averageValue", get(&s, "averageValue")),
            ]);
            json!({"describedObject": get(&s, "target"), "metric": identity("selector"), "current": current})
        }
        "pods" => {
            let current = build(&[("averageValue", get(&s, "currentAverageValue"))]);
            json!({"metric": identity("selector"), "current": current})
        }
        "external" => {
            let current = build(&[
                ("value", get(&s, "currentValue")),
                ("averageValue", get(&s, "currentAverageValue")),
            ]);
            json!({"metric": identity("metricSelector"), "current": current})
        }
        _ => {
            let current = build(&[
                ("averageUtilization", get(&s, "currentAverageUtilization")),
                ("averageValue", get(&s, "currentAverageValue")),
            ]);
            build(&[
                ("name", get(&s, "name")),
                ("container", get(&s, "container")),
                ("current", Some(current)),
            ])
        }
    };
    whole(metric, field, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_cannot_say_survives_the_way_there_and_back() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                {"type": "External", "external": {"metric": {"name": "e", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "1"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "o"}, "target": {"type": "Value", "value": "2"}}},
                {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
                "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}},
            "status": {"conditions": [{"type": "ScalingActive", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10, "averageValue": "3m"}}}]}});
        let mut obj = v2.clone();
        to_v1(&mut obj);
        assert_eq!(obj["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(obj["status"]["currentCPUUtilizationPercentage"], 10);
        assert!(obj["spec"].get("metrics").is_none() && obj["spec"].get("behavior").is_none());
        assert!(
            obj["metadata"]["annotations"][BEHAVIOR]
                .as_str()
                .is_some_and(|t| t.contains("\"ScaleUp\""))
        );
        to_v2(&mut obj);
        assert_eq!(obj, v2);
    }
}
