//! Node. Upstream: pkg/registry/core/node, ValidateNode; validation-core §2.

use std::collections::BTreeSet;

use api::names;
use jiff::Timestamp;
use machinery::causes::{CauseKind, go_text};
use machinery::object::{at, bool_at, list_at, map_at, remove, set, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind, WriteContext};
use serde_json::{Value, json};

use super::{amounts, pod};
use crate::cells;
use crate::checks::{self, net, quantity};

struct Node;

/// Longest name of a declared feature.
const FEATURE_BYTES_MAX: usize = 253;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let all = &["create", "delete", "get", "patch", "update"];
    let mut d = Descriptor::new("", "v1", "Node", "nodes", Scope::Cluster, Node)
        .short(&["no"])
        .sub("proxy", pod::connect(all, "NodeProxyOptions"))
        .sub("status", SubresourceKind::Status);
    // Where upstream has kept them since they were minions.
    d.storage_prefix = "minions".into();
    d
}

impl Strategy for Node {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if let Some(capacity) = at(obj, "status.capacity").cloned() {
            machinery::object::set_default(obj, "status.allocatable", capacity);
        }
        for field in ["capacity", "allocatable"] {
            amounts::canonical_list(obj, &format!("status.{field}"));
        }
        pod_cidrs(obj);
    }

    // Upstream: a new node keeps the status it brings, so `has_status` stays false.
    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        remove(obj, "spec.configSource");
        remove(obj, "status.config");
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
        if at(before, "spec.configSource").is_none() {
            remove(obj, "spec.configSource");
        }
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        if at(before, "status.config").is_none() {
            remove(obj, "status.config");
        }
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("metadata", |c| c.at("taints", |c| taints(obj, c)));
        causes.at("status", |c| {
            for field in ["capacity", "allocatable"] {
                // Upstream checks both under the name of the first.
                c.at("capacity", |c| {
                    for (name, value) in map_at(obj, &format!("status.{field}"))
                        .into_iter()
                        .flatten()
                    {
                        c.at(name, |c| quantity::amount(name, value, c).map_or((), drop));
                    }
                });
            }
            c.at("declaredFeatures", |c| features(obj, c));
        });
        causes.at("spec", |c| {
            c.at("podCIDRs", |c| {
                net::networks(&texts(obj, "spec.podCIDRs"), c)
            });
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        changes(obj, before, causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        changes(obj, before, causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if at(obj, "spec.configSource").is_some() {
            out.push("spec.configSource: the feature is removed".into());
        }
        if !str_at(obj, "spec.externalID").is_empty() {
            out.push(
                "spec.externalID: this field is deprecated, and is unused by Kubernetes".into(),
            );
        }
        out
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let unschedulable = bool_at(obj, "spec.unschedulable") == Some(true);
        vec![("spec.unschedulable", unschedulable.to_string())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Status"),
            Column::new("Roles"),
            Column::new("Age"),
            Column::new("Version"),
            Column::new("Internal-IP").wide(),
            Column::new("External-IP").wide(),
            Column::new("OS-Image").wide(),
            Column::new("Kernel-Version").wide(),
            Column::new("Container-Runtime").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let info = |field: &str| str_at(obj, &format!("status.nodeInfo.{field}")).to_string();
        let known = |text: String| {
            json!(if text.is_empty() {
                "<unknown>".into()
            } else {
                text
            })
        };
        let mut kernel = info("kernelVersion");
        if !kernel.is_empty() && !info("architecture").is_empty() {
            kernel = format!("{kernel} ({})", info("architecture"));
        }
        vec![
            cells::name(obj),
            json!(status(obj)),
            cells::or_none(&roles(obj)),
            cells::age(obj, now),
            json!(info("kubeletVersion")),
            cells::or_none(address(obj, "InternalIP")),
            cells::or_none(address(obj, "ExternalIP")),
            known(info("osImage")),
            known(kernel),
            known(info("containerRuntimeVersion")),
        ]
    }
}

fn texts<'a>(obj: &'a Value, path: &str) -> Vec<&'a str> {
    let all = list_at(obj, path).iter();
    all.filter_map(Value::as_str).collect()
}

/// spec.podCIDR and the first of spec.podCIDRs say the same.
fn pod_cidrs(obj: &mut Value) {
    let one = str_at(obj, "spec.podCIDR").to_string();
    let first = texts(obj, "spec.podCIDRs")
        .first()
        .map(|t| (*t).to_string());
    match (one.as_str(), first) {
        ("", Some(first)) => set(obj, "spec.podCIDR", json!(first)),
        ("", None) => {}
        (one, Some(first)) if one == first => {}
        (one, _) => {
            let list = json!([one]);
            set(obj, "spec.podCIDRs", list);
        }
    }
}

fn taints(obj: &Value, c: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (i, t) in list_at(obj, "spec.taints").iter().enumerate() {
        c.index(i, |c| {
            let (key, value, effect) = (str_at(t, "key"), str_at(t, "value"), str_at(t, "effect"));
            c.at("key", |c| checks::all(key, names::qualified_name(key), c));
            let problems = names::label_value(value);
            if !problems.is_empty() {
                c.at("value", |c| c.invalid(&json!(value), problems.join(";")));
            }
            let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
            checks::one_of(t, "effect", effects, c);
            if !seen.insert((key, effect)) {
                let text = "taints must be unique by key and effect pair";
                c.shown(CauseKind::Duplicate, go_text(t), text);
            }
        });
    }
}

/// Declared features are well-formed, sorted and unique.
fn features(obj: &Value, c: &mut Causes) {
    let all = texts(obj, "status.declaredFeatures");
    for (i, name) in all.iter().enumerate() {
        let bad = |c: &mut Causes, why: String| {
            c.index(i, |c| {
                c.invalid(
                    &json!(name),
                    format!("invalid feature name \"{name}\": {why}"),
                );
            });
        };
        if name.len() > FEATURE_BYTES_MAX {
            bad(c, "must be no more than 253 characters".into());
        }
        let mut parts = name.split('/').enumerate();
        let fine = parts.all(|(n, part)| {
            let first = part.bytes().next();
            first.is_some_and(|b| b.is_ascii_uppercase() || (n > 0 && b.is_ascii_lowercase()))
                && part.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        if !fine {
            bad(c, "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes".into());
        }
        if let Some(next) = all.get(i + 1) {
            c.index(i + 1, |c| match name.cmp(next) {
                std::cmp::Ordering::Equal => c.duplicate(&json!(next)),
                std::cmp::Ordering::Greater => {
                    c.invalid(&json!(next), "list must be sorted alphabetically");
                }
                std::cmp::Ordering::Less => {}
            });
        }
    }
}

/// What an update may not do.
fn changes(obj: &Value, before: &Value, causes: &mut Causes) {
    let mut seen: Vec<&Value> = Vec::new();
    for (i, a) in list_at(obj, "status.addresses").iter().enumerate() {
        if seen.contains(&a) {
            causes.at("status", |c| {
                c.at("addresses", |c| c.index(i, |c| c.duplicate(a)));
            });
        }
        seen.push(a);
    }
    causes.at("spec", |c| {
        let cidrs = |o| texts(o, "spec.podCIDRs");
        if !cidrs(before).is_empty() && cidrs(obj) != cidrs(before) {
            c.at("podCIDRs", |c| {
                c.forbidden("node updates may not change podCIDR except from \"\" to valid");
            });
        }
        let once = str_at(before, "spec.providerID");
        if !once.is_empty() && str_at(obj, "spec.providerID") != once {
            c.at("providerID", |c| {
                c.forbidden("node updates may not change providerID except from \"\" to valid");
            });
        }
        if str_at(obj, "spec.externalID") != str_at(before, "spec.externalID") {
            c.at("externalID", |c| c.forbidden("may not be updated"));
        }
    });
}

fn status(obj: &Value) -> String {
    let mut ready = list_at(obj, "status.conditions").iter().rev();
    let ready = ready.find(|c| str_at(c, "type") == "Ready");
    let mut text = match ready.map(|c| str_at(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if bool_at(obj, "spec.unschedulable") == Some(true) {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(obj: &Value) -> String {
    let labels = map_at(obj, "metadata.labels").into_iter().flatten();
    let all: BTreeSet<&str> = labels
        .filter_map(|(k, v)| match k.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if k == "kubernetes.io/role" => v.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(obj: &'a Value, kind: &str) -> &'a str {
    let mut all = list_at(obj, "status.addresses").iter();
    let found = all.find(|a| str_at(a, "type") == kind);
    found.map_or("", |a| str_at(a, "address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut c = Causes::new();
        match before {
            Some(b) => Node.validate_update(obj, b, &mut c),
            None => Node.validate(obj, &mut c),
        }
        c.as_slice().iter().map(|c| c.text()).collect()
    }

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        for (obj, expected) in [
            (
                json!({"spec": {"taints": [{"key": "a", "effect": "Maybe"}]}}),
                "metadata.taints[0].effect: Unsupported value: \"Maybe\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                json!({"spec": {"podCIDRs": ["10.0.0.1/8"]}}),
                "spec.podCIDRs[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
            ),
            (
                json!({"status": {"capacity": {"cpu": "-1"}}}),
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"status": {"declaredFeatures": ["B", "A"]}}),
                "status.declaredFeatures[1]: Invalid value: \"A\": list must be sorted alphabetically",
            ),
        ] {
            assert_eq!(texts(&obj, None), [expected]);
        }
        let before = json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        assert_eq!(
            texts(
                &json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b"}}),
                Some(&before)
            ),
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"
            ]
        );
    }

    #[test]
    fn a_node_shows_its_state_and_roles() {
        let obj = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kernelVersion": "6.1", "architecture": "amd64"}}});
        let row = Node.row(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[2], &row[8]),
            (
                &json!("Ready,SchedulingDisabled"),
                &json!("control-plane"),
                &json!("6.1 (amd64)")
            )
        );
    }
}
