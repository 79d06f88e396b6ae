//! ControllerRevision. Upstream: pkg/registry/apps/controllerrevision, pkg/apis/apps.

use api::names;
use jiff::Timestamp;
use machinery::object::{bool_at, list_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::workload::GROUP;
use crate::cells;
use crate::fields;

struct ControllerRevision;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ControllerRevision",
        "controllerrevisions",
        Scope::Namespaced,
        ControllerRevision,
    )
}

impl Strategy for ControllerRevision {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        fields::non_negative(obj, &["revision"], causes);
        causes.at("data", |c| match obj.get("data") {
            None | Some(Value::Null) => c.required("data is mandatory"),
            Some(Value::Object(_)) => {}
            Some(_) => c.required("data must be a valid JSON object"),
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::non_negative(obj, &["revision"], causes);
        fields::immutable(obj, before, "data", causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Controller"),
            Column::new("Revision"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let owners = list_at(obj, "metadata.ownerReferences");
        let controller = owners
            .iter()
            .find(|o| bool_at(o, "controller") == Some(true));
        let text = controller.map_or_else(String::new, |o| {
            let kind = str_at(o, "kind").to_lowercase();
            let name = str_at(o, "name");
            match str_at(o, "apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        });
        vec![
            cells::name(obj),
            cells::or_none(&text),
            cells::integer(obj, "revision"),
            cells::age(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::texts;

    #[test]
    fn data_is_there_and_stays() {
        let good = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}});
        assert_eq!(texts(|c| ControllerRevision.validate(&good, c)), [""; 0]);
        for (data, expected) in [
            (Value::Null, "data: Required value: data is mandatory"),
            (
                json!("x"),
                "data: Required value: data must be a valid JSON object",
            ),
        ] {
            let found = texts(|c| ControllerRevision.validate(&json!({"data": data}), c));
            assert_eq!(found, [expected]);
        }
        let other = json!({"revision": 2, "data": {"a": 2}});
        assert_eq!(
            texts(|c| ControllerRevision.validate_update(&other, &good, c)),
            ["data: Invalid value: {\"a\":2}: field is immutable"]
        );
    }
}
