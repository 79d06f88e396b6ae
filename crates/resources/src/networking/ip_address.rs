//! IPAddress. Upstream: pkg/registry/networking/ipaddress, pkg/apis/networking/validation.

use api::names;
use jiff::Timestamp;
use machinery::object::{at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::checks::net;
use crate::fields;

struct IpAddress;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "IPAddress",
        "ipaddresses",
        Scope::Cluster,
        IpAddress,
    )
    .short(&["ip"])
}

impl Strategy for IpAddress {
    fn name_problems(&self, name: &str, _prefix: bool) -> Vec<String> {
        net::ip_strict(name)
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let Some(parent) = at(obj, "spec.parentRef") else {
            return causes.at("spec.parentRef", |c| c.required(""));
        };
        causes.at("spec.parentRef", |c| {
            fields::optional_text(parent, "group", names::dns1123_subdomain, c);
            fields::required_segment(parent, "resource", c);
            fields::required_segment(parent, "name", c);
            fields::optional_text(parent, "namespace", fields::segment, c);
        });
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        fields::frozen(obj, before, "spec.parentRef", causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("ParentRef")]
    }

    fn row(&self, obj: &Value, _now: Timestamp) -> Row {
        let parent = at(obj, "spec.parentRef").map_or_else(
            || "<none>".to_string(),
            |p| {
                let text = |field| str_at(p, field);
                let resource = match text("group") {
                    "" => text("resource").to_lowercase(),
                    group => format!("{}.{group}", text("resource")).to_lowercase(),
                };
                match text("namespace") {
                    "" => format!("{resource}/{}", text("name")),
                    ns => format!("{resource}/{ns}/{}", text("name")),
                }
            },
        );
        vec![cells::name(obj), json!(parent)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn names_are_addresses_and_parents_stay() {
        assert_eq!(IpAddress.name_problems("10.0.0.1", false), [""; 0]);
        assert!(!IpAddress.name_problems("10.0.0.01", false).is_empty());
        assert_eq!(
            texts(|c| IpAddress.validate(&json!({}), c)),
            ["spec.parentRef: Required value"]
        );
        let (old, new) = (
            json!({"spec": {"parentRef": {"resource": "services", "name": "a"}}}),
            json!({"spec": {"parentRef": {"resource": "services", "name": "b"}}}),
        );
        assert_eq!(
            texts(|c| IpAddress.validate_update(&new, &old, c)),
            ["spec.parentRef: Invalid value: null: field is immutable"]
        );
    }
}
