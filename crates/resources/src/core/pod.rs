//! Pod. Upstream: pkg/registry/core/pod; validation-pod §6, §7, §10 to §16, §19.

mod binding;
pub mod eviction;
pub mod prepare;
pub mod qos;
mod resize;
mod row;
mod rules;
mod status;
mod update;

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, i64_at, list_at, str_at};
use machinery::{
    ApiError, Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext,
};
use serde_json::Value;

use super::{pod_spec, pod_warnings, same};

struct Pod;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let both = &["create", "get"];
    let all = &["create", "delete", "get", "patch", "update"];
    let mut d = Descriptor::new("", "v1", "Pod", "pods", Scope::Namespaced, Pod)
        .short(&["po"])
        .category(&["all"])
        .status()
        .sub("ephemeralcontainers", SubresourceKind::Object)
        .sub("resize", SubresourceKind::Object)
        .sub("attach", connect(both, "PodAttachOptions"))
        .sub("binding", connect(&["create"], "Binding"))
        .sub("exec", connect(both, "PodExecOptions"))
        .sub("log", connect(&["get"], "Pod"))
        .sub("portforward", connect(both, "PodPortForwardOptions"))
        .sub("proxy", connect(all, "PodProxyOptions"))
        .sub(
            "eviction",
            SubresourceKind::Connect {
                verbs: &["create"],
                kind: "Eviction".into(),
                group: "policy".into(),
                version: "v1".into(),
            },
        );
    d.subresources.sort_by(|a, b| a.name.cmp(&b.name));
    d
}

/// A connect subresource whose options are a kind of core/v1.
pub fn connect(verbs: &'static [&'static str], kind: &'static str) -> SubresourceKind {
    SubresourceKind::Connect {
        verbs,
        kind: kind.into(),
        group: "".into(),
        version: "v1".into(),
    }
}

/// Keys of field selectors. `spec.host` is an old alias of `spec.nodeName`.
const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
    "spec.host",
];

impl Strategy for Pod {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn set_defaults(&self, obj: &mut Value) {
        prepare::drop_old_annotations(obj);
        if let Some(spec) = obj.get_mut("spec") {
            pod_spec::set_pod_defaults(spec);
            pod_spec::set_defaults(spec);
        }
        prepare::addresses(obj);
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        prepare::create(obj, cx);
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        prepare::status(obj, before);
    }

    fn prepare_subresource(&self, sub: &str, obj: &mut Value, before: &Value, cx: &WriteContext) {
        match sub {
            "ephemeralcontainers" => prepare::ephemeral_containers(obj, before),
            "resize" => prepare::resize(obj, before),
            _ => self.prepare_update(obj, before, cx),
        }
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        !same::values(&obj["spec"], &before["spec"])
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::create(obj, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        update::pod(obj, before, causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        status::update(obj, before, causes);
    }

    fn validate_subresource(&self, sub: &str, obj: &Value, before: &Value, causes: &mut Causes) {
        match sub {
            "ephemeralcontainers" => update::ephemeral_containers(obj, before, causes),
            "resize" => resize::update(obj, before, causes),
            _ => update::pod(obj, before, causes),
        }
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        match before {
            None => pod_warnings::of_pod(obj),
            Some(before) => status::warnings(obj, before),
        }
    }

    fn actions(&self) -> &[&'static str] {
        &["binding"]
    }

    fn act(
        &self,
        _sub: &str,
        obj: &mut Value,
        body: &Value,
        cx: &WriteContext,
    ) -> Result<(), ApiError> {
        binding::bind(obj, body, cx)
    }

    fn grace_seconds(&self, obj: &Value, asked: Option<i64>) -> Option<i64> {
        let over = ["Succeeded", "Failed"].contains(&str_at(obj, "status.phase"));
        if over || str_at(obj, "spec.nodeName").is_empty() {
            return Some(0);
        }
        let wanted = asked.or_else(|| i64_at(obj, "spec.terminationGracePeriodSeconds"));
        Some(match wanted.unwrap_or(0) {
            n if n < 0 => 1,
            n => n,
        })
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn selectable_keys(&self) -> &[&'static str] {
        SELECTABLE
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        SELECTABLE
            .iter()
            .map(|key| {
                let value = match *key {
                    "spec.hostNetwork" => {
                        (bool_at(obj, "spec.hostNetwork") == Some(true)).to_string()
                    }
                    "spec.host" => str_at(obj, "spec.nodeName").to_string(),
                    "status.podIP" => first_address(obj).to_string(),
                    // Upstream: the label is known, and never has a value.
                    "status.podIPs" => String::new(),
                    path => str_at(obj, path).to_string(),
                };
                (*key, value)
            })
            .collect()
    }

    fn columns(&self) -> Vec<Column> {
        row::columns()
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        row::row(obj, now)
    }
}

/// The pod's first address, or `""`.
pub fn first_address(obj: &Value) -> &str {
    let first = list_at(obj, "status.podIPs").first();
    first.map_or_else(|| str_at(obj, "status.podIP"), |ip| str_at(ip, "ip"))
}

#[cfg(test)]
mod tests;
