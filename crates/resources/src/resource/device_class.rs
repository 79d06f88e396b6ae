//! DeviceClass. Upstream: pkg/registry/resource/deviceclass, pkg/apis/resource/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::{GROUP, devices};
use crate::cells;

const CONFIG_MAX: usize = 32;

struct DeviceClass;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "DeviceClass",
        "deviceclasses",
        Scope::Cluster,
        DeviceClass,
    )
}

impl Strategy for DeviceClass {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        causes.at("spec", |c| {
            devices::selectors(spec, c);
            devices::limited(spec, "config", CONFIG_MAX, c, &mut |one, c| {
                devices::configuration(one, c);
            });
            if at(spec, "extendedResourceName").is_some() {
                extended_resource(str_at(spec, "extendedResourceName"), c);
            }
        });
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![cells::name(obj), cells::age(obj, now)]
    }
}

fn extended_resource(name: &str, c: &mut Causes) {
    c.at("extendedResourceName", |c| {
        let shown = json!(name);
        let Some((domain, _)) = name.split_once('/') else {
            return c.invalid(
                &shown,
                "a name must be a domain-prefixed path, such as 'example.com/my-prop'",
            );
        };
        if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
            c.invalid(&shown, "must not have \"kubernetes.io/\" domain");
        }
        if name.starts_with("requests.") {
            c.invalid(&shown, "must not have \"requests.\" prefix");
        }
        for problem in names::qualified_name(&format!("requests.{name}")) {
            c.invalid(&shown, problem);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn selectors_and_names_are_judged() {
        let good = json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": "a.b/c"}});
        assert_eq!(texts(|c| DeviceClass.validate(&good, c)), [""; 0]);
        let bad = json!({"spec": {"selectors": [{}], "extendedResourceName": "x"}});
        assert_eq!(
            texts(|c| DeviceClass.validate(&bad, c)),
            [
                "spec.selectors[0].cel: Required value",
                "spec.extendedResourceName: Invalid value: \"x\": a name must be a domain-prefixed path, such as 'example.com/my-prop'"
            ]
        );
    }
}
