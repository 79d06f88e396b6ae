//! ResourceClaimTemplate. Upstream: pkg/registry/resource/resourceclaimtemplate, pkg/apis/resource/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, map_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::Value;

use super::{GROUP, devices};
use crate::cells;
use crate::fields;

struct ResourceClaimTemplate;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
        Scope::Namespaced,
        ResourceClaimTemplate,
    )
}

impl Strategy for ResourceClaimTemplate {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        devices::set_defaults(obj, "spec.spec");
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let template = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            c.at("metadata", |c| metadata(template, c));
            let spec = template.get("spec").unwrap_or(&Value::Null);
            c.at("spec", |c| devices::claim_spec(spec, c));
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::immutable(obj, before, "spec", causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![cells::name(obj), cells::age(obj, now)]
    }
}

/// Templates carry labels and annotations only.
fn metadata(template: &Value, c: &mut Causes) {
    c.at("labels", |c| {
        machinery::meta::labels(map_at(template, "metadata.labels"), c);
    });
    for field in [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
    ] {
        if at(template, &format!("metadata.{field}")).is_some() {
            c.at(field, |c| c.forbidden("cannot be set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::texts;

    #[test]
    fn templates_name_nothing_and_stay() {
        let bad = json!({"spec": {"metadata": {"name": "x"}, "spec": {}}});
        assert_eq!(
            texts(|c| ResourceClaimTemplate.validate(&bad, c)),
            ["spec.metadata.name: Forbidden: cannot be set"]
        );
        let other = json!({"spec": {"spec": {"devices": {}}}});
        assert_eq!(
            texts(|c| ResourceClaimTemplate.validate_update(&other, &bad, c)),
            ["spec: Invalid value: {\"spec\":{\"devices\":{}}}: field is immutable"]
        );
    }
}
