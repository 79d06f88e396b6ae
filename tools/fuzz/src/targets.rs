//! The targets, by what they read.

mod configuration;
mod credentials;
mod expressions;
mod node;
mod objects;
mod patches;
mod selectors;
mod webhooks;

use serde_json::Value;

use crate::{Memory, Target};

/// All targets.
pub const ALL: &[Target] = &[
    objects::PROTOBUF,
    objects::JSON,
    objects::YAML,
    objects::CUSTOM_OBJECT,
    selectors::SELECTOR,
    selectors::JSON_PATH,
    selectors::REQUEST_LINE,
    patches::JSON_PATCH,
    patches::MERGE_PATCH,
    patches::STRATEGIC_MERGE,
    patches::APPLY,
    expressions::CEL,
    credentials::JWT,
    credentials::CERTIFICATE,
    credentials::BOOTSTRAP_TOKEN,
    credentials::ACCESS_REVIEW,
    webhooks::ADMISSION_REVIEW,
    webhooks::CONVERSION_REVIEW,
    configuration::AUDIT_POLICY,
    configuration::ENCRYPTION,
    configuration::K0S_YAML,
    node::IMAGE,
    node::DNS,
    node::SPDY,
];

/// A request's body.
const BODY: usize = apiserver::limits::BODY_BYTES;

/// What a tree of values may take: the largest byte for byte is a list of lists in a text of brackets and commas, or
/// a map of maps, which is half empty when it has grown; both are there twice while they are written again.
const TREE: Memory = Memory {
    base: 1 << 20,
    per_byte: 256,
};

/// What a text that stays a text may take.
const TEXT: Memory = Memory {
    base: 256 << 10,
    per_byte: 64,
};

/// The parts of an input, which zero bytes separate; missing ones are empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut all = data.splitn(N, |b| *b == 0);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// Parts of an input as one.
fn joined(parts: &[&str]) -> Vec<u8> {
    parts.join("\0").into_bytes()
}

/// A part as text.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// A part as a value, the given text's where it is none.
fn value(data: &[u8], otherwise: &str) -> Value {
    let parsed = serde_json::from_slice(data).or_else(|_| serde_json::from_str(otherwise));
    parsed.unwrap_or_default()
}

/// A pod with one of everything that lists and maps may be.
const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default","uid":"u","labels":{"app":"web"},
"annotations":{"a/b":"c"},"finalizers":["x.io/y"],"creationTimestamp":"2026-01-01T00:00:00Z","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"o","controller":true}],
"managedFields":[{"manager":"k","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{}}}}}}}}]},
"spec":{"containers":[{"name":"c","image":"nginx:1","args":["-g","daemon off;"],"env":[{"name":"A","value":"1"},{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
"ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"100m","memory":"1Gi"}},"livenessProbe":{"httpGet":{"port":"http","path":"/"}}}],
"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}}],"tolerations":[{"operator":"Exists"}],"nodeSelector":{"a":"b"}},
"status":{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
