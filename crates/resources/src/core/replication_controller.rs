//! ReplicationController. Upstream: pkg/registry/core/replicationcontroller; validation-core §10.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, map_at, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, SubresourceKind};
use serde_json::{Value, json};

use super::template;
use crate::cells;
use crate::checks;

struct ReplicationController;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let mut d = Descriptor::new(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        Scope::Namespaced,
        ReplicationController,
    )
    .short(&["rc"])
    .category(&["all"])
    .sub(
        "scale",
        SubresourceKind::Scale {
            spec: "spec.replicas".into(),
            status: "status.replicas".into(),
            selector: "spec.selector".into(),
        },
    )
    .status();
    // Upstream's name for them before there were other controllers.
    d.storage_prefix = "controllers".into();
    d
}

impl Strategy for ReplicationController {
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
        if at(obj, "spec").is_none() {
            return;
        }
        set_default(obj, "spec.replicas", json!(1));
        let labels = map_at(obj, "spec.template.metadata.labels").cloned();
        if let Some(labels) = labels.filter(|l| !l.is_empty()) {
            for path in ["spec.selector", "metadata.labels"] {
                if map_at(obj, path).is_none_or(serde_json::Map::is_empty) {
                    set(obj, path, json!(labels));
                }
            }
        }
        template::set_defaults(obj, "spec.template");
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &machinery::WriteContext) {
        set(obj, "status", json!({"replicas": 0}));
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| {
            let spec = &obj["spec"];
            checks::non_negative(spec, "minReadySeconds", c);
            let selector = map_at(spec, "selector").filter(|s| !s.is_empty());
            if selector.is_none() {
                c.at("selector", |c| c.required(""));
            }
            if i64_at(spec, "replicas").is_none() {
                c.at("replicas", |c| c.required(""));
            }
            checks::non_negative(spec, "replicas", c);
            c.at("template", |c| pods(spec, selector, c));
        });
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        causes.at("status", |c| {
            let status = &obj["status"];
            let number = |f: &str| i64_at(status, f).unwrap_or(0);
            let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
            checks::non_negative(status, "replicas", c);
            parts
                .iter()
                .for_each(|f| checks::non_negative(status, f, c));
            checks::non_negative(status, "observedGeneration", c);
            for field in parts.iter().filter(|f| number(f) > number("replicas")) {
                c.at(field, |c| {
                    c.invalid(
                        &json!(number(field)),
                        "cannot be greater than status.replicas",
                    );
                });
            }
            if number("availableReplicas") > number("readyReplicas") {
                c.at("availableReplicas", |c| {
                    c.invalid(
                        &json!(number("availableReplicas")),
                        "cannot be greater than readyReplicas",
                    );
                });
            }
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let problems = names::dns1123_label(machinery::object::name(obj));
        if before.is_none() && !problems.is_empty() {
            out.push(format!(
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: {}",
                checks::go_list(&problems)
            ));
        }
        out.extend(template::warnings(obj, before, "spec.template"));
        out
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
        let [containers, images] = template::cells(obj.pointer("/spec/template/spec"));
        vec![
            cells::name(obj),
            cells::integer(obj, "spec.replicas"),
            cells::integer(obj, "status.replicas"),
            cells::integer(obj, "status.readyReplicas"),
            cells::age(obj, now),
            containers,
            images,
            cells::label_map(map_at(obj, "spec.selector")),
        ]
    }
}

/// Checks the template at the current path.
fn pods(spec: &Value, selector: Option<&serde_json::Map<String, Value>>, c: &mut Causes) {
    let Some(pods) = at(spec, "template") else {
        c.required("");
        return;
    };
    let labels = map_at(pods, "metadata.labels");
    let has = |k: &String, v: &Value| labels.is_some_and(|l| l.get(k) == Some(v));
    if let Some(selector) = selector
        && !selector.iter().all(|(k, v)| has(k, v))
    {
        let shown = labels.map_or(Value::Null, |l| Value::Object(l.clone()));
        c.at("metadata", |c| {
            c.at("labels", |c| {
                c.invalid(&shown, "`selector` does not match template `labels`");
            });
        });
    }
    template::validate(pods, &[], c);
    c.at("spec", |c| {
        let policy = str_at(pods, "spec.restartPolicy");
        if policy != "Always" {
            c.at("restartPolicy", |c| {
                c.not_supported(&json!(policy), &["Always"])
            });
        }
        if at(pods, "spec.activeDeadlineSeconds").is_some() {
            c.at("activeDeadlineSeconds", |c| {
                c.forbidden("activeDeadlineSeconds in ReplicationController is not Supported");
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_rules() {
        let pods = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let mut obj = json!({"metadata": {"name": "r"}, "spec": {"template": pods}});
        ReplicationController.set_defaults(&mut obj);
        assert_eq!(
            (&obj["spec"]["selector"], &obj["metadata"]["labels"]),
            (&json!({"a": "b"}), &json!({"a": "b"}))
        );
        let texts = |obj: &Value| -> Vec<String> {
            let mut c = Causes::new();
            ReplicationController.validate(obj, &mut c);
            c.as_slice().iter().map(|c| c.text()).collect()
        };
        assert_eq!(texts(&obj), Vec::<String>::new());
        obj["spec"]["selector"] = json!({"x": "y"});
        obj["spec"]["replicas"] = json!(-1);
        obj["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
        assert_eq!(
            texts(&obj),
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ]
        );
    }
}
