//! ReplicaSet. Upstream: pkg/registry/apps/replicaset, pkg/apis/apps.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, set_default};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::workload::{self, GROUP};
use crate::cells;
use crate::core::template;
use crate::fields;

struct ReplicaSet;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ReplicaSet",
        "replicasets",
        Scope::Namespaced,
        ReplicaSet,
    )
    .short(&["rs"])
    .category(&["all"])
    .sub("scale", workload::scale())
    .status()
}

impl Strategy for ReplicaSet {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.replicas", json!(1));
        template::set_defaults(obj, "spec.template");
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            fields::non_negative(spec, &["replicas", "minReadySeconds"], c);
            workload::selector_and_template(spec, "deployment", "ReplicaSet", c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::immutable(obj, before, "spec.selector", causes);
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        let status = obj.get("status").unwrap_or(&Value::Null);
        causes.at("status", |c| {
            fields::non_negative(
                status,
                &[
                    "replicas",
                    "fullyLabeledReplicas",
                    "readyReplicas",
                    "availableReplicas",
                    "terminatingReplicas",
                    "observedGeneration",
                ],
                c,
            );
            workload::counts_within_replicas(
                status,
                &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
                c,
            );
            fields::not_over(
                status,
                "availableReplicas",
                "readyReplicas",
                "cannot be greater than readyReplicas",
                c,
            );
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        workload::warnings(obj, before)
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["status.replicas"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let replicas = workload::count(obj, "status.replicas");
        vec![("status.replicas", replicas.to_string())]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Desired"),
            Column::integer("Current"),
            Column::integer("Ready"),
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
            cells::integer(obj, "spec.replicas"),
            cells::integer(obj, "status.replicas"),
            cells::integer(obj, "status.readyReplicas"),
            cells::age(obj, now),
            containers,
            images,
            cells::selector(at(obj, "spec.selector")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn an_empty_one_names_all_that_is_missing() {
        let mut obj = json!({"metadata": {"name": "web"}, "spec": {}});
        ReplicaSet.set_defaults(&mut obj);
        let found = texts(|c| ReplicaSet.validate(&obj, c));
        for text in [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value",
        ] {
            assert!(found.iter().any(|f| f == text), "{text} not in {found:#?}");
        }
    }
}
