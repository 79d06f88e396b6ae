//! RuntimeClass. Upstream: pkg/registry/node/runtimeclass, pkg/apis/node.

use api::names;
use api::quantity::Quantity;
use jiff::Timestamp;
use machinery::object::{list_at, map_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use crate::cells;
use crate::checks::deprecated_label;
use crate::core::pod_checks;
use crate::fields;

struct RuntimeClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "node.k8s.io",
        "v1",
        "RuntimeClass",
        "runtimeclasses",
        Scope::Cluster,
        RuntimeClass,
    )
}

impl Strategy for RuntimeClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("overhead.limits", |c| overhead(obj, c));
        causes.at("scheduling.nodeSelector", |c| {
            machinery::meta::labels(map_at(obj, "scheduling.nodeSelector"), c);
        });
        let tolerations = list_at(obj, "scheduling.tolerations");
        for (i, one) in tolerations.iter().enumerate() {
            causes.at("scheduling.tolerations", |c| {
                c.index(i, |c| {
                    pod_checks::toleration(one, c);
                    if tolerations[..i].contains(one) {
                        c.duplicate(one);
                    }
                });
            });
        }
        fields::required_text(obj, "handler", names::dns1123_label, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        fields::frozen(obj, before, "handler", causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let labels = map_at(obj, "scheduling.nodeSelector");
        let warn = |key: &String| {
            let text = deprecated_label(key)?;
            Some(format!("scheduling.nodeSelector: {text}"))
        };
        labels
            .into_iter()
            .flat_map(|m| m.keys())
            .filter_map(warn)
            .collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Handler"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(str_at(obj, "handler")),
            cells::age(obj, now),
        ]
    }
}

fn overhead(obj: &Value, c: &mut Causes) {
    for (name, amount) in map_at(obj, "overhead.podFixed").into_iter().flatten() {
        c.key(name, |c| {
            for problem in names::qualified_name(name) {
                c.invalid(&json!(name), problem);
            }
            let text = amount
                .as_str()
                .map_or_else(|| amount.to_string(), str::to_string);
            match Quantity::parse(&text) {
                Ok(q) if q.sign() < 0 => c.invalid(&json!(text), fields::NON_NEGATIVE),
                Ok(_) => {}
                Err(e) => c.invalid(&json!(text), e.to_string()),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn handlers_are_labels_and_stay() {
        let good = json!({"handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}}});
        assert_eq!(texts(|c| RuntimeClass.validate(&good, c)), [""; 0]);
        let bad = json!({"overhead": {"podFixed": {"cpu": "-1"}}, "scheduling": {"tolerations": [{"key": "a"}, {"key": "a"}]}});
        assert_eq!(
            texts(|c| RuntimeClass.validate(&bad, c)),
            [
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\"}",
                "handler: Required value",
            ]
        );
        let other = json!({"handler": "kata"});
        assert_eq!(
            texts(|c| RuntimeClass.validate_update(&other, &good, c)),
            ["handler: Invalid value: null: field is immutable"]
        );
    }
}
