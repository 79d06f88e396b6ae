//! DeviceTaintRule. Upstream: pkg/registry/resource/devicetaintrule, pkg/apis/resource/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, set, set_default, str_at};
use machinery::strategy::{freeze_all_but_status, keep};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::{GROUP, devices};
use crate::cells;
use crate::fields;

const CONDITIONS_MAX: usize = 8;
const ADDED: &str = "spec.taint.timeAdded";

struct DeviceTaintRule;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "DeviceTaintRule",
        "devicetaintrules",
        Scope::Cluster,
        DeviceTaintRule,
    )
    .status()
}

impl Strategy for DeviceTaintRule {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_create(&self, obj: &mut Value, cx: &WriteContext) {
        if at(obj, "spec.taint").is_some() {
            set_default(obj, ADDED, json!(crate::time::rfc3339(cx.now)));
        }
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        keep(obj, before, "status");
        self.prepare_create(obj, cx);
        let effect = |o: &Value| str_at(o, "spec.taint.effect").to_string();
        // Another effect is another taint, unless the client says since when.
        if effect(obj) != effect(before) && at(obj, ADDED) == at(before, ADDED) {
            set(obj, ADDED, json!(crate::time::rfc3339(cx.now)));
        }
    }

    fn prepare_status_update(&self, obj: &mut Value, before: &Value, cx: &WriteContext) {
        freeze_all_but_status(obj, before);
        fields::keep_metadata(obj, before, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            if let Some(selector) = at(spec, "deviceSelector") {
                c.at("deviceSelector", |c| {
                    if at(selector, "driver").is_some() {
                        devices::driver(selector, "driver", c);
                    }
                    if at(selector, "pool").is_some() {
                        devices::pool(selector, "pool", c);
                    }
                    fields::optional_text(selector, "device", names::dns1123_label, c);
                });
            }
            let taint = at(spec, "taint").unwrap_or(&Value::Null);
            c.at("taint", |c| devices::taint(taint, c));
        });
    }

    fn validate_status_update(&self, obj: &Value, _before: &Value, causes: &mut Causes) {
        let all = list_at(obj, "status.conditions");
        causes.at("status.conditions", |c| {
            if all.len() > CONDITIONS_MAX {
                c.too_many(all.len(), CONDITIONS_MAX);
            }
            fields::conditions(all, c);
        });
    }

    fn columns(&self) -> Vec<Column> {
        ["Key", "Value", "Effect", "TimeAdded", "Age"]
            .into_iter()
            .fold(vec![Column::name()], |mut all, name| {
                all.push(Column::new(name));
                all
            })
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let text = |field: &str| json!(str_at(obj, &format!("spec.taint.{field}")));
        let added = str_at(obj, ADDED).parse::<Timestamp>().map_or_else(
            |_| String::new(),
            |t| machinery::strategy::human_duration(now.as_second() - t.as_second()),
        );
        vec![
            cells::name(obj),
            text("key"),
            text("value"),
            text("effect"),
            json!(added),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn the_time_follows_the_effect() {
        let user = machinery::request::User::default();
        let cx = |second| WriteContext {
            now: Timestamp::from_second(second).expect("a time"),
            user: &user,
            namespace: "",
            subresource: "",
        };
        let mut old = json!({"spec": {"taint": {"key": "k", "effect": "None"}}});
        DeviceTaintRule.prepare_create(&mut old, &cx(0));
        assert_eq!(old["spec"]["taint"]["timeAdded"], "1970-01-01T00:00:00Z");
        assert_eq!(texts(|c| DeviceTaintRule.validate(&old, c)), [""; 0]);
        let mut new = old.clone();
        new["spec"]["taint"]["effect"] = json!("NoExecute");
        DeviceTaintRule.prepare_update(&mut new, &old, &cx(60));
        assert_eq!(new["spec"]["taint"]["timeAdded"], "1970-01-01T00:01:00Z");
        let bad = json!({"spec": {"taint": {"key": "k", "effect": "x"}}});
        assert_eq!(
            texts(|c| DeviceTaintRule.validate(&bad, c)),
            [
                "spec.taint.effect: Unsupported value: \"x\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""
            ]
        );
    }
}
