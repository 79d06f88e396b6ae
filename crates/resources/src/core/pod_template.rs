//! PodTemplate. Upstream: pkg/registry/core/podtemplate.

use api::names;
use jiff::Timestamp;
use machinery::object::map_at;
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::template;
use crate::cells;

struct PodTemplate;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "",
        "v1",
        "PodTemplate",
        "podtemplates",
        Scope::Namespaced,
        PodTemplate,
    )
}

impl Strategy for PodTemplate {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        obj.get("template") != before.get("template")
    }

    fn set_defaults(&self, obj: &mut Value) {
        template::set_defaults(obj, "template");
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("template", |c| {
            template::validate(obj.get("template").unwrap_or(&Value::Null), &[], c);
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        template::warnings(obj, before, "template")
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        ["Containers", "Images", "Pod Labels"]
            .iter()
            .fold(vec![Column::name()], |mut all, name| {
                all.push(Column::new(name));
                all
            })
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let [containers, images] = template::cells(obj.pointer("/template/spec"));
        let labels = map_at(obj, "template.metadata.labels");
        vec![
            cells::name(obj),
            containers,
            images,
            cells::label_map(labels),
        ]
    }
}
