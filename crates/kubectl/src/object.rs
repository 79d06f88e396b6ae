//! Small readings of objects that are JSON values.

use serde_json::Value;

/// A string, empty where there is none.
pub fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.name`.
pub fn name(v: &Value) -> &str {
    text(v, "/metadata/name")
}

/// `metadata.namespace`.
pub fn namespace(v: &Value) -> &str {
    text(v, "/metadata/namespace")
}

/// The items of a list, none where it is none.
pub fn items<'a>(v: &'a Value, pointer: &str) -> &'a [Value] {
    v.pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Pairs of a map of strings, sorted.
pub fn pairs(v: &Value) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = v
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), plain(v)))
        .collect();
    all.sort();
    all
}

/// A scalar as text.
pub fn plain(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `k=v,k=v`, sorted.
pub fn selector(v: &Value) -> String {
    let all: Vec<String> = pairs(v).iter().map(|(k, v)| format!("{k}={v}")).collect();
    all.join(",")
}

/// The pod's template within a workload, as a pointer; pods are their own.
pub fn pod_spec_pointer(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => "/spec/template/spec",
        _ => return None,
    })
}
