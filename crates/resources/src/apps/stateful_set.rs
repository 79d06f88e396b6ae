//! StatefulSet. Upstream: pkg/registry/apps/statefulset, pkg/apis/apps.

use api::names;
use api::selector::LabelSelector;
use jiff::Timestamp;
use machinery::object::{at, at_mut, i64_at, list_at, remove, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::workload::{self, GROUP};
use crate::cells;
use crate::core::{persistent_volume_claim, template};
use crate::fields;

/// What an update may change.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

struct StatefulSet;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "StatefulSet",
        "statefulsets",
        Scope::Namespaced,
        StatefulSet,
    )
    .short(&["sts"])
    .category(&["all"])
    .sub("scale", workload::scale())
    .status()
}

impl Strategy for StatefulSet {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::label_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.podManagementPolicy", json!("OrderedReady"));
        if str_at(obj, "spec.updateStrategy.type").is_empty() {
            set(obj, "spec.updateStrategy.type", json!("RollingUpdate"));
            set_default(obj, "spec.updateStrategy.rollingUpdate", json!({}));
        }
        if str_at(obj, "spec.updateStrategy.type") == "RollingUpdate"
            && at(obj, "spec.updateStrategy.rollingUpdate").is_some()
        {
            set_default(obj, "spec.updateStrategy.rollingUpdate.partition", json!(0));
        }
        for field in ["whenDeleted", "whenScaled"] {
            let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
            set_default(obj, &path, json!("Retain"));
        }
        set_default(obj, "spec.replicas", json!(1));
        set_default(obj, "spec.revisionHistoryLimit", json!(10));
        if let Some(Value::Array(claims)) = at_mut(obj, "spec.volumeClaimTemplates") {
            for claim in claims.iter_mut().filter(|c| c.is_object()) {
                set_default(claim, "spec.volumeMode", json!("Filesystem"));
                set_default(claim, "status.phase", json!("Pending"));
            }
        }
        template::set_defaults(obj, "spec.template");
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let service = str_at(obj, "spec.serviceName");
        causes.at("spec", |c| {
            let spec = obj.get("spec").unwrap_or(&Value::Null);
            spec_rules(spec, true, c);
            for (i, claim) in list_at(spec, "volumeClaimTemplates").iter().enumerate() {
                let claim = claim.get("spec").unwrap_or(&Value::Null);
                c.at("volumeClaimTemplates", |c| {
                    c.index(i, |c| {
                        c.at("spec", |c| persistent_volume_claim::spec(claim, c));
                    });
                });
            }
            if !service.is_empty() {
                c.at("serviceName", |c| {
                    fields::text(service, names::dns1123_label, c);
                });
            }
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let empty = Value::Null;
        let (spec, old) = (
            obj.get("spec").unwrap_or(&empty),
            before.get("spec").unwrap_or(&empty),
        );
        // A template that was let in once does not hinder later changes.
        let mut was = Causes::new();
        spec_rules(old, true, &mut was);
        causes.at("spec", |c| spec_rules(spec, was.is_empty(), c));
        let mut same = spec.clone();
        for field in MUTABLE {
            machinery::strategy::keep(&mut same, old, field);
        }
        if same != *old {
            causes.at("spec", |c| {
                c.forbidden("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
            });
        }
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let empty = Value::Null;
        let status = obj.get("status").unwrap_or(&empty);
        causes.at("status", |c| {
            let all = [
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ];
            fields::non_negative(status, &["replicas"], c);
            fields::non_negative(status, &all, c);
            fields::non_negative(status, &["observedGeneration", "collisionCount"], c);
            workload::counts_within_replicas(status, &all, c);
            fields::not_over(
                status,
                "availableReplicas",
                "readyReplicas",
                "cannot be greater than status.readyReplicas",
                c,
            );
            let old = before.get("status").unwrap_or(&empty);
            fields::not_decremented(status, old, "collisionCount", c);
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = template::warnings(obj, before, "spec.template");
        let claims = list_at(obj, "spec.volumeClaimTemplates");
        for (i, claim) in claims.iter().enumerate() {
            let spec = claim.get("spec").unwrap_or(&Value::Null);
            // On updates upstream's path goes one step further.
            let path = match before {
                None => format!("spec.volumeClaimTemplates[{i}]"),
                Some(_) => format!("spec.volumeClaimTemplates[{i}].Spec"),
            };
            persistent_volume_claim::fractions(&path, spec, &mut out);
        }
        if i64_at(obj, "spec.revisionHistoryLimit").is_some_and(|n| n < 0) {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
        out
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Ready"),
            Column::new("Age"),
            Column::new("Containers").wide(),
            Column::new("Images").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let [containers, images] = template::cells(at(obj, "spec.template.spec"));
        vec![
            cells::name(obj),
            workload::ready_cell(obj),
            cells::age(obj, now),
            containers,
            images,
        ]
    }
}

fn spec_rules(spec: &Value, with_template: bool, c: &mut Causes) {
    match str_at(spec, "podManagementPolicy") {
        "" => c.at("podManagementPolicy", |c| c.required("")),
        "OrderedReady" | "Parallel" => {}
        other => c.at("podManagementPolicy", |c| {
            c.invalid(&json!(other), "must be 'OrderedReady' or 'Parallel'");
        }),
    }
    c.at("updateStrategy", |c| strategy(spec, c));
    if at(spec, "persistentVolumeClaimRetentionPolicy").is_some() {
        for field in ["whenDeleted", "whenScaled"] {
            let path = format!("persistentVolumeClaimRetentionPolicy.{field}");
            let value = str_at(spec, &path);
            if !["Retain", "Delete"].contains(&value) {
                c.at(&path, |c| {
                    fields::unsupported(c, &json!(value), &["Retain", "Delete"]);
                });
            }
        }
    }
    fields::non_negative(spec, &["replicas", "minReadySeconds", "ordinals.start"], c);
    match at(spec, "selector") {
        None => c.at("selector", |c| c.required("")),
        Some(_) => workload::selector(spec, "statefulset", c),
    }
    let selector = at(spec, "selector");
    match selector.filter(|s| LabelSelector::from_object(s).is_none()) {
        Some(selector) => c.at("selector", |c| c.invalid(selector, "")),
        None => {
            workload::matches_template(spec, c);
            if with_template {
                let pod = template_to_check(spec);
                c.at("template", |c| template::validate(&pod, &[], c));
            }
        }
    }
    workload::runs_on(spec, "StatefulSet", c);
}

/// The template as its pods will be: the claims are volumes, the names come from the set.
fn template_to_check(spec: &Value) -> Value {
    let mut pod = spec.get("template").cloned().unwrap_or_default();
    remove(&mut pod, "spec.subdomain");
    remove(&mut pod, "spec.hostname");
    let claims: Vec<&str> = list_at(spec, "volumeClaimTemplates")
        .iter()
        .map(machinery::object::name)
        .collect();
    if claims.is_empty() {
        return pod;
    }
    let claim = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let mut volumes: Vec<Value> = claims.iter().map(claim).collect();
    let own = list_at(&pod, "spec.volumes");
    volumes.extend(
        own.iter()
            .filter(|v| !claims.contains(&str_at(v, "name")))
            .cloned(),
    );
    set(&mut pod, "spec.volumes", json!(volumes));
    pod
}

fn strategy(spec: &Value, c: &mut Causes) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let rolling = at(strategy, "rollingUpdate");
    match (str_at(strategy, "type"), rolling) {
        ("", _) => c.required(""),
        ("OnDelete", Some(rolling)) => {
            let shown = json!({"Partition": i64_at(rolling, "partition").unwrap_or(0),
                "MaxUnavailable": at(rolling, "maxUnavailable")});
            c.at("rollingUpdate", |c| {
                c.invalid(&shown, "only allowed for updateStrategy 'RollingUpdate'");
            });
        }
        ("RollingUpdate", Some(rolling)) => c.at("rollingUpdate", |c| {
            fields::non_negative(rolling, &["partition"], c);
            let Some(unavailable) = at(rolling, "maxUnavailable") else {
                return;
            };
            fields::int_or_percent(rolling, "maxUnavailable", c);
            if fields::int_or_percent_value(rolling, "maxUnavailable") == 0 {
                c.at("maxUnavailable", |c| c.invalid(unavailable, "cannot be 0"));
            }
            fields::at_most_hundred_percent(rolling, "maxUnavailable", c);
        }),
        ("OnDelete" | "RollingUpdate", None) => {}
        (other, rolling) => {
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            c.invalid(&shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "selector": {"matchLabels": {"a": "b"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}],
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}}}});
        StatefulSet.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn claims_count_as_volumes() {
        assert_eq!(texts(|c| StatefulSet.validate(&good(), c)), [""; 0]);
        assert_eq!(
            good()["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        for (path, value, expected) in [
            (
                "spec.podManagementPolicy",
                json!("x"),
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                "spec.updateStrategy.type",
                json!("OnDelete"),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"MaxUnavailable\":null,\"Partition\":0}: only allowed for updateStrategy 'RollingUpdate'",
            ),
            (
                "spec.ordinals",
                json!({"start": -1}),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "spec.selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
            ),
            (
                "spec.volumeClaimTemplates",
                json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]),
                "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            let found = texts(|c| StatefulSet.validate(&obj, c));
            assert!(found.iter().any(|t| t == expected), "{path}: {found:#?}");
        }
    }

    #[test]
    fn updates_are_restricted() {
        let before = good();
        for (path, value, fine) in [
            ("spec.replicas", json!(5), true),
            ("spec.minReadySeconds", json!(5), true),
            ("spec.serviceName", json!("other"), false),
            ("spec.volumeClaimTemplates", json!([]), false),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            let found = texts(|c| StatefulSet.validate_update(&obj, &before, c));
            let refused = found
                .iter()
                .any(|t| t.starts_with("spec: Forbidden: updates to statefulset spec"));
            assert_eq!(refused, !fine, "{path}: {found:#?}");
        }
    }
}
