//! Deployment. Upstream: pkg/registry/apps/deployment, pkg/apis/apps.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, set, set_default, str_at};
use machinery::strategy::freeze_all_but_status;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::workload::{self, GROUP};
use crate::cells;
use crate::core::template;
use crate::fields;

struct Deployment;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "Deployment",
        "deployments",
        Scope::Namespaced,
        Deployment,
    )
    .short(&["deploy"])
    .category(&["all"])
    .sub("scale", workload::scale())
    .status()
}

impl Strategy for Deployment {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.replicas", json!(1));
        if str_at(obj, "spec.strategy.type").is_empty() {
            set(obj, "spec.strategy.type", json!("RollingUpdate"));
        }
        if str_at(obj, "spec.strategy.type") == "RollingUpdate" {
            for field in ["maxUnavailable", "maxSurge"] {
                let path = format!("spec.strategy.rollingUpdate.{field}");
                set_default(obj, &path, json!("25%"));
            }
        }
        set_default(obj, "spec.revisionHistoryLimit", json!(10));
        set_default(obj, "spec.progressDeadlineSeconds", json!(600));
        template::set_defaults(obj, "spec.template");
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        let notes = |o: &Value| at(o, "metadata.annotations").cloned();
        obj.get("spec") != before.get("spec") || notes(obj) != notes(before)
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        match at(before, "metadata.labels") {
            Some(labels) => set(obj, "metadata.labels", labels.clone()),
            None => {
                machinery::object::remove(obj, "metadata.labels");
            }
        }
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            fields::non_negative(spec, &["replicas"], c);
            workload::selector_and_template(spec, "deployment", "ReplicaSet", c);
            c.at("strategy", |c| strategy(spec, c));
            fields::non_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], c);
            let Some(deadline) = machinery::object::i64_at(spec, "progressDeadlineSeconds") else {
                return;
            };
            fields::non_negative(spec, &["progressDeadlineSeconds"], c);
            if deadline <= workload::count(spec, "minReadySeconds") {
                c.at("progressDeadlineSeconds", |c| {
                    c.invalid(&json!(deadline), "must be greater than minReadySeconds");
                });
            }
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec.selector", causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let empty = Value::Null;
        let (status, old) = (
            obj.get("status").unwrap_or(&empty),
            before.get("status").unwrap_or(&empty),
        );
        causes.at("status", |c| {
            fields::non_negative(
                status,
                &[
                    "observedGeneration",
                    "replicas",
                    "updatedReplicas",
                    "readyReplicas",
                    "availableReplicas",
                    "unavailableReplicas",
                    "terminatingReplicas",
                    "collisionCount",
                ],
                c,
            );
            workload::counts_within_replicas(
                status,
                &["updatedReplicas", "readyReplicas", "availableReplicas"],
                c,
            );
            fields::not_over(
                status,
                "availableReplicas",
                "readyReplicas",
                "cannot be greater than readyReplicas",
                c,
            );
            fields::not_decremented(status, old, "collisionCount", c);
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        workload::warnings(obj, before)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Ready"),
            Column::new("Up-to-date"),
            Column::new("Available"),
            Column::new("Age"),
            Column::new("Containers").wide(),
            Column::new("Images").wide(),
            Column::new("Selector").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let [containers, images] = template::cells(at(obj, "spec.template.spec"));
        vec![
            cells::name(obj),
            workload::ready_cell(obj),
            cells::integer(obj, "status.updatedReplicas"),
            cells::integer(obj, "status.availableReplicas"),
            cells::age(obj, now),
            containers,
            images,
            selector_cell(obj),
        ]
    }
}

/// Deployments print their selector in a form of their own.
fn selector_cell(obj: &Value) -> Value {
    let Some(selector) = at(obj, "spec.selector") else {
        return json!("");
    };
    let parsed = api::selector::LabelSelector::from_object(selector);
    json!(parsed.map_or_else(|| "<invalid>".to_string(), |s| s.to_string()))
}

fn strategy(spec: &Value, c: &mut Causes) {
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    let rolling = at(strategy, "rollingUpdate");
    match (str_at(strategy, "type"), rolling) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => c.at("rollingUpdate", |c| {
            c.forbidden("may not be specified when strategy `type` is 'Recreate'");
        }),
        ("RollingUpdate", None) => c.at("rollingUpdate", |c| {
            c.required("this should be defaulted and never be nil");
        }),
        ("RollingUpdate", Some(rolling)) => c.at("rollingUpdate", |c| {
            fields::int_or_percent(rolling, "maxUnavailable", c);
            fields::int_or_percent(rolling, "maxSurge", c);
            let value = |field| fields::int_or_percent_value(rolling, field);
            if value("maxUnavailable") == 0 && value("maxSurge") == 0 {
                let shown = rolling.get("maxUnavailable").cloned().unwrap_or(json!(0));
                c.at("maxUnavailable", |c| {
                    c.invalid(&shown, "may not be 0 when `maxSurge` is 0");
                });
            }
            fields::at_most_hundred_percent(rolling, "maxUnavailable", c);
        }),
        (other, rolling) => {
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            fields::unsupported(c, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        Deployment.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn defaults_are_upstreams_and_pass() {
        let obj = good();
        assert_eq!(
            obj["spec"]["strategy"],
            json!({"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(obj["spec"]["replicas"], 1);
        assert_eq!(obj["spec"]["progressDeadlineSeconds"], 600);
        assert_eq!(texts(|c| Deployment.validate(&obj, c)), [""; 0]);
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        for (path, value, expected) in [
            (
                "spec.replicas",
                json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "spec.selector",
                Value::Null,
                "spec.selector: Required value",
            ),
            (
                "spec.selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            ),
            (
                "spec.template.metadata.labels",
                json!({"x": "y"}),
                "spec.template.metadata.labels: Invalid value: {\"x\":\"y\"}: `selector` does not match template `labels`",
            ),
            (
                "spec.template.spec.restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "spec.template.spec.activeDeadlineSeconds",
                json!(5),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ),
            (
                "spec.strategy.type",
                json!("Recreate"),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                "spec.strategy",
                json!({"type": "Other"}),
                "spec.strategy: Unsupported value: {\"RollingUpdate\":null,\"Type\":\"Other\"}: supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (
                "spec.strategy.rollingUpdate",
                json!({"maxUnavailable": 0, "maxSurge": 0}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ),
            (
                "spec.progressDeadlineSeconds",
                json!(0),
                "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            let found = texts(|c| Deployment.validate(&obj, c));
            assert!(found.iter().any(|t| t == expected), "{path}: {found:#?}");
        }
    }

    #[test]
    fn updates_keep_the_selector_and_count_generations() {
        let (before, mut obj) = (good(), good());
        set(&mut obj, "metadata.annotations", json!({"a": "b"}));
        assert!(Deployment.generation_changes(&obj, &before));
        set(
            &mut obj,
            "spec.selector",
            json!({"matchLabels": {"a": "c"}}),
        );
        set(&mut obj, "spec.template.metadata.labels", json!({"a": "c"}));
        assert_eq!(
            texts(|c| Deployment.validate_update(&obj, &before, c)),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"]
        );
        let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}});
        let old = json!({"status": {"collisionCount": 1}});
        assert_eq!(
            texts(|c| Deployment.validate_status_update(&status, &old, c)),
            [
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ]
        );
    }

    #[test]
    fn the_row_counts_pods() {
        let mut obj = good();
        set(
            &mut obj,
            "status",
            json!({"readyReplicas": 1, "updatedReplicas": 2}),
        );
        let row = Deployment.row(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            vec![
                json!("web"),
                json!("1/1"),
                json!(2),
                json!(0),
                json!("<unknown>"),
                json!("c"),
                json!("i"),
                json!("a=b")
            ]
        );
    }
}
