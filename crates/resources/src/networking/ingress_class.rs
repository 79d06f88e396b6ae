//! IngressClass. Upstream: pkg/registry/networking/ingressclass, pkg/apis/networking/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, map_at, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::fields;

const CONTROLLER_MAX: usize = 250;
const DEFAULT_NOTE: &str = "ingressclass.kubernetes.io/is-default-class";

struct IngressClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "IngressClass",
        "ingressclasses",
        Scope::Cluster,
        IngressClass,
    )
}

impl Strategy for IngressClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        if at(obj, "spec.parameters").is_some() {
            set_default(obj, "spec.parameters.scope", json!("Cluster"));
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let controller = str_at(obj, "spec.controller");
        causes.at("spec", |c| {
            c.at("controller", |c| {
                if controller.len() > CONTROLLER_MAX {
                    c.too_long(CONTROLLER_MAX);
                }
                fields::domain_prefixed_path(controller, c);
            });
            if let Some(parameters) = at(obj, "spec.parameters") {
                c.at("parameters", |c| reference(parameters, c));
            }
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::immutable(obj, before, "spec.controller", causes);
        self.validate(obj, causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Controller"),
            Column::new("Parameters"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let notes = map_at(obj, "metadata.annotations");
        let default = notes.and_then(|m| m.get(DEFAULT_NOTE)) == Some(&json!("true"));
        let mark = if default { " (default)" } else { "" };
        let parameters = at(obj, "spec.parameters").map_or_else(
            || "<none>".to_string(),
            |p| {
                let (kind, name) = (str_at(p, "kind"), str_at(p, "name"));
                match str_at(p, "apiGroup") {
                    "" => format!("{kind}/{name}"),
                    group => format!("{kind}.{group}/{name}"),
                }
            },
        );
        vec![
            json!(format!("{}{mark}", machinery::object::name(obj))),
            json!(str_at(obj, "spec.controller")),
            json!(parameters),
            cells::age(obj, now),
        ]
    }
}

fn reference(parameters: &Value, c: &mut Causes) {
    fields::optional_text(parameters, "apiGroup", names::dns1123_subdomain, c);
    let namespace = at(parameters, "namespace").and_then(Value::as_str);
    let scope = str_at(parameters, "scope");
    match (scope, namespace) {
        ("", _) => c.at("scope", |c| c.required("")),
        ("Namespace", None) => c.at("namespace", |c| {
            c.required("`parameters.scope` is set to 'Namespace'");
        }),
        ("Namespace", Some(ns)) => c.at("namespace", |c| {
            fields::text(ns, names::dns1123_label, c);
        }),
        ("Cluster", Some(_)) => c.at("namespace", |c| {
            c.forbidden("`parameters.scope` is set to 'Cluster'");
        }),
        ("Cluster", None) => {}
        (other, _) => c.at("scope", |c| {
            fields::unsupported(c, &json!(other), &["Cluster", "Namespace"]);
        }),
    }
    fields::required_segment(parameters, "kind", c);
    fields::required_segment(parameters, "name", c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn mistakes_read_as_upstreams() {
        for (spec, expected) in [
            (json!({"controller": "a.b/c"}), vec![]),
            (json!({}), vec!["spec.controller: Required value"]),
            (
                json!({"controller": "a.b/c", "parameters": {"scope": "Namespace", "kind": "K", "name": "n"}}),
                vec![
                    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
                ],
            ),
            (
                json!({"controller": "a.b/c", "parameters": {"scope": "Cluster", "namespace": "n", "name": "n"}}),
                vec![
                    "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
                    "spec.parameters.kind: Required value",
                ],
            ),
        ] {
            let obj = json!({"spec": spec});
            assert_eq!(texts(|c| IngressClass.validate(&obj, c)), expected);
        }
        let (old, new) = (
            json!({"spec": {"controller": "a.b/c"}}),
            json!({"spec": {"controller": "a.b/d"}}),
        );
        assert_eq!(
            texts(|c| IngressClass.validate_update(&new, &old, c)),
            ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
        );
    }
}
