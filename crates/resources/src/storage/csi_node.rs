//! CSINode. Upstream: pkg/registry/storage/csinode, pkg/apis/storage.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, list_at, remove, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, rules};
use crate::cells;
use crate::fields;

/// Longest id of a node.
const NODE_ID_MAX: usize = 256;

struct CsiNode;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(GROUP, "v1", "CSINode", "csinodes", Scope::Cluster, CsiNode).status()
}

impl Strategy for CsiNode {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn shows_empty_status(&self) -> bool {
        false
    }

    fn has_status(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let drivers = list_at(obj, "spec.drivers");
        causes.at("spec.drivers", |c| {
            for (i, driver) in drivers.iter().enumerate() {
                c.index(i, |c| one(driver, c));
            }
            fields::unique(drivers, "name", c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        // A driver that stays, stays as it was, but for what it can hold.
        let fixed = |driver: &Value| {
            let mut d = driver.clone();
            remove(&mut d, "allocatable");
            d
        };
        let old = list_at(before, "spec.drivers");
        let changed = list_at(obj, "spec.drivers").iter().any(|new| {
            let was = old
                .iter()
                .find(|o| str_at(o, "name") == str_at(new, "name"));
            was.is_some_and(|was| fixed(was) != fixed(new))
        });
        if changed {
            let shown = json!(list_at(obj, "spec.drivers"));
            causes.at("spec.drivers", |c| c.invalid(&shown, fields::IMMUTABLE));
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::integer("Drivers"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(list_at(obj, "spec.drivers").len()),
            cells::age(obj, now),
        ]
    }
}

fn one(driver: &Value, c: &mut Causes) {
    rules::driver(driver, "name", c);
    let id = str_at(driver, "nodeID");
    c.at("nodeID", |c| {
        if id.is_empty() {
            c.required("");
        }
        if id.len() > NODE_ID_MAX {
            c.invalid(&json!(id), "must be 256 characters or less");
        }
    });
    if let Some(allocatable) = at(driver, "allocatable") {
        c.at("allocatable", |c| {
            fields::non_negative(allocatable, &["count"], c);
        });
    }
    let keys = list_at(driver, "topologyKeys");
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or("");
        if text.is_empty() {
            c.required("");
        } else {
            fields::text(text, names::qualified_name, c);
        }
        if keys[..i].contains(key) {
            c.duplicate(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn drivers_are_judged_and_stay() {
        let good = json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n", "allocatable": {"count": 1}}]}});
        assert_eq!(texts(|c| CsiNode.validate(&good, c)), [""; 0]);
        let bad = json!({"spec": {"drivers": [{"name": "a.b"}, {"name": "a.b", "nodeID": "n", "topologyKeys": ["x", "x"]}]}});
        assert_eq!(
            texts(|c| CsiNode.validate(&bad, c)),
            [
                "spec.drivers[0].nodeID: Required value",
                "spec.drivers[1]: Duplicate value: \"x\"",
                "spec.drivers[1].name: Duplicate value: \"a.b\"",
            ]
        );
        let other = json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "m"}]}});
        assert_eq!(
            texts(|c| CsiNode.validate_update(&other, &good, c)),
            [
                "spec.drivers: Invalid value: [{\"name\":\"a.b\",\"nodeID\":\"m\"}]: field is immutable"
            ]
        );
        let holds_more = json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n", "allocatable": {"count": 2}}]}});
        assert_eq!(
            texts(|c| CsiNode.validate_update(&holds_more, &good, c)),
            [""; 0]
        );
    }
}
