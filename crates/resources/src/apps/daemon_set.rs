//! DaemonSet. Upstream: pkg/registry/apps/daemonset, pkg/apis/apps.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, map_at, map_mut, set, set_default, str_at};
use machinery::strategy::keep;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::workload::{self, GROUP};
use crate::cells;
use crate::core::template;
use crate::fields;

/// Where v1 shows the old template generation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

struct DaemonSet;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "DaemonSet",
        "daemonsets",
        Scope::Namespaced,
        DaemonSet,
    )
    .short(&["ds"])
    .category(&["all"])
    .status()
}

/// The template generation an object carries, 0 where there is none.
fn template_generation(obj: &Value) -> i64 {
    let notes = map_at(obj, "metadata.annotations");
    let text = notes.and_then(|m| m.get(TEMPLATE_GENERATION));
    text.and_then(Value::as_str)
        .and_then(|t| t.parse().ok())
        .unwrap_or(0)
}

fn set_template_generation(obj: &mut Value, n: i64) {
    map_mut(obj, "metadata.annotations").insert(TEMPLATE_GENERATION.into(), json!(n.to_string()));
}

impl Strategy for DaemonSet {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if str_at(obj, "spec.updateStrategy.type").is_empty() {
            set(obj, "spec.updateStrategy.type", json!("RollingUpdate"));
        }
        if str_at(obj, "spec.updateStrategy.type") == "RollingUpdate" {
            for (field, n) in [("maxUnavailable", 1), ("maxSurge", 0)] {
                let path = format!("spec.updateStrategy.rollingUpdate.{field}");
                set_default(obj, &path, json!(n));
            }
        }
        set_default(obj, "spec.revisionHistoryLimit", json!(10));
        template::set_defaults(obj, "spec.template");
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        let n = template_generation(obj).max(1);
        set_template_generation(obj, n);
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        keep(obj, before, "status");
        let changed = at(obj, "spec.template") != at(before, "spec.template");
        let n = template_generation(before) + i64::from(changed);
        set_template_generation(obj, n);
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
            fields::label_selector(spec, "selector", c);
            workload::matches_template(spec, c);
            let selector = at(spec, "selector");
            let parsed = selector.and_then(api::selector::LabelSelector::from_object);
            if let Some(selector) = selector.filter(|_| parsed.is_some_and(|p| p.is_empty())) {
                c.at("selector", |c| {
                    c.invalid(selector, "empty selector is invalid for daemonset");
                });
            }
            let template = spec.get("template").unwrap_or(&Value::Null);
            c.at("template", |c| template::validate(template, &[], c));
            workload::runs_on(spec, "DaemonSet", c);
            fields::non_negative(spec, &["minReadySeconds"], c);
            c.at("updateStrategy", |c| strategy(spec, c));
            fields::non_negative(spec, &["revisionHistoryLimit"], c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::immutable(obj, before, "spec.selector", causes);
        self.validate(obj, causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let empty = Value::Null;
        let status = obj.get("status").unwrap_or(&empty);
        causes.at("status", |c| {
            fields::non_negative(
                status,
                &[
                    "currentNumberScheduled",
                    "numberMisscheduled",
                    "desiredNumberScheduled",
                    "numberReady",
                    "observedGeneration",
                    "updatedNumberScheduled",
                    "numberAvailable",
                    "numberUnavailable",
                    "collisionCount",
                ],
                c,
            );
            let old = before.get("status").unwrap_or(&empty);
            fields::not_decremented(status, old, "collisionCount", c);
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        template::warnings(obj, before, "spec.template")
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Desired"),
            Column::integer("Current"),
            Column::integer("Ready"),
            Column::integer("Up-to-date"),
            Column::integer("Available"),
            Column::new("Node Selector"),
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
            cells::integer(obj, "status.desiredNumberScheduled"),
            cells::integer(obj, "status.currentNumberScheduled"),
            cells::integer(obj, "status.numberReady"),
            cells::integer(obj, "status.updatedNumberScheduled"),
            cells::integer(obj, "status.numberAvailable"),
            cells::label_map(map_at(obj, "spec.template.spec.nodeSelector")),
            cells::age(obj, now),
            containers,
            images,
            cells::selector(at(obj, "spec.selector")),
        ]
    }
}

fn strategy(spec: &Value, c: &mut Causes) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    match str_at(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = at(strategy, "rollingUpdate") else {
                return c.at("rollingUpdate", |c| c.required(""));
            };
            c.at("rollingUpdate", |c| rolling_update(rolling, c));
        }
        other => {
            let shown = json!({"Type": other, "RollingUpdate": at(strategy, "rollingUpdate")});
            fields::unsupported(c, &shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

fn rolling_update(rolling: &Value, c: &mut Causes) {
    for field in ["maxUnavailable", "maxSurge"] {
        fields::int_or_percent(rolling, field, c);
    }
    for field in ["maxUnavailable", "maxSurge"] {
        fields::at_most_hundred_percent(rolling, field, c);
    }
    let set = |field| fields::int_or_percent_value(rolling, field) != 0;
    match (set("maxUnavailable"), set("maxSurge")) {
        (true, true) => {
            let shown = rolling.get("maxSurge").cloned().unwrap_or_default();
            c.at("maxSurge", |c| {
                c.invalid(&shown, "may not be set when maxUnavailable is non-zero");
            });
        }
        (false, false) => c.at("maxUnavailable", |c| {
            c.required("cannot be 0 when maxSurge is 0");
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        let mut obj = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        DaemonSet.set_defaults(&mut obj);
        obj
    }

    #[test]
    fn the_template_generation_follows_the_template() {
        let user = machinery::request::User::default();
        let cx = WriteContext {
            now: Timestamp::UNIX_EPOCH,
            user: &user,
            namespace: "n",
            subresource: "",
        };
        let mut before = good();
        DaemonSet.prepare_create(&mut before, &cx);
        assert_eq!(before["metadata"]["annotations"][TEMPLATE_GENERATION], "1");
        let mut obj = good();
        DaemonSet.prepare_update(&mut obj, &before, &cx);
        assert_eq!(obj["metadata"]["annotations"][TEMPLATE_GENERATION], "1");
        set(&mut obj, "spec.template.spec.hostNetwork", json!(true));
        DaemonSet.prepare_update(&mut obj, &before, &cx);
        assert_eq!(obj["metadata"]["annotations"][TEMPLATE_GENERATION], "2");
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| DaemonSet.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec.selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
            ),
            (
                "spec.updateStrategy",
                json!({"type": "RollingUpdate"}),
                "spec.updateStrategy.rollingUpdate: Required value",
            ),
            (
                "spec.updateStrategy.rollingUpdate",
                json!({"maxUnavailable": 1, "maxSurge": 1}),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ),
            (
                "spec.updateStrategy.rollingUpdate",
                json!({"maxUnavailable": 0, "maxSurge": 0}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
        ] {
            let mut obj = good();
            set(&mut obj, path, value);
            let found = texts(|c| DaemonSet.validate(&obj, c));
            assert!(found.iter().any(|t| t == expected), "{path}: {found:#?}");
        }
    }
}
