//! EndpointSlice. Upstream: pkg/registry/discovery/endpointslice, ValidateEndpointSlice; validation-groups §7.

use std::collections::BTreeSet;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, remove, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use crate::cells;
use crate::checks::{self, net};
use crate::core::pod_spec::each;

struct EndpointSlice;

const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
const HINTS_MAX: usize = 8;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        Scope::Namespaced,
        EndpointSlice,
    )
}

impl Strategy for EndpointSlice {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        each(obj, "ports", |p| {
            machinery::object::set_default(p, "name", json!(""));
            machinery::object::set_default(p, "protocol", json!("TCP"));
        });
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changes(&self, obj: &Value, before: &Value) -> bool {
        ["addressType", "endpoints", "ports"]
            .iter()
            .any(|f| obj.get(f) != before.get(f))
            || at(obj, "metadata.labels") != at(before, "metadata.labels")
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        each(obj, "endpoints", |e| {
            remove(e, "deprecatedTopology");
        });
    }

    fn prepare_update(&self, obj: &mut Value, _before: &Value, cx: &WriteContext) {
        self.prepare_create(obj, cx);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        let kind = str_at(obj, "addressType");
        causes.at("ports", |c| ports(obj, c));
        causes.at("endpoints", |c| {
            let all = list_at(obj, "endpoints");
            if all.len() > ENDPOINTS_MAX {
                c.too_many(all.len(), ENDPOINTS_MAX);
                return;
            }
            for (i, e) in all.iter().enumerate() {
                c.index(i, |c| endpoint(e, kind, c));
            }
        });
        checks::one_of(obj, "addressType", &["FQDN", "IPv4", "IPv6"], causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        self.validate(obj, causes);
        if obj.get("addressType") != before.get("addressType") {
            causes.at("addressType", |c| {
                c.invalid(&Value::Null, checks::IMMUTABLE);
            });
        }
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        if before.is_none() && str_at(obj, "addressType") == "FQDN" {
            return vec!["spec.addressType: FQDN endpoints are deprecated".into()];
        }
        Vec::new()
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("AddressType"),
            Column::new("Ports"),
            Column::new("Endpoints"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let ports: Vec<String> = list_at(obj, "ports")
            .iter()
            .map(|p| match (i64_at(p, "port"), str_at(p, "name")) {
                (Some(n), _) => n.to_string(),
                (None, "") => "*".into(),
                (None, name) => name.into(),
            })
            .collect();
        let addresses: Vec<String> = list_at(obj, "endpoints")
            .iter()
            .flat_map(|e| list_at(e, "addresses"))
            .filter_map(|a| a.as_str().map(str::to_string))
            .collect();
        vec![
            cells::name(obj),
            json!(str_at(obj, "addressType")),
            json!(cells::more(&ports, 3, "<unset>")),
            json!(cells::more(&addresses, 3, "<unset>")),
            cells::age(obj, now),
        ]
    }
}

fn ports(obj: &Value, c: &mut Causes) {
    let all = list_at(obj, "ports");
    if all.len() > PORTS_MAX {
        c.too_many(all.len(), PORTS_MAX);
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, p) in all.iter().enumerate() {
        c.index(i, |c| {
            checks::optional(p, "name", names::dns1123_label, c);
            let name = str_at(p, "name");
            if !seen.insert(name) {
                c.at("name", |c| c.duplicate(&json!(name)));
            }
            checks::one_of(p, "protocol", &["SCTP", "TCP", "UDP"], c);
            checks::optional(p, "appProtocol", names::qualified_name, c);
        });
    }
}

fn endpoint(e: &Value, kind: &str, c: &mut Causes) {
    let addresses = list_at(e, "addresses");
    c.at("addresses", |c| {
        if addresses.is_empty() {
            c.required("");
        } else if addresses.len() > ADDRESSES_MAX {
            c.too_many(addresses.len(), ADDRESSES_MAX);
        }
        for (i, a) in addresses.iter().enumerate() {
            let text = a.as_str().unwrap_or_default();
            c.index(i, |c| address(text, kind, c));
        }
    });
    checks::optional(e, "nodeName", names::dns1123_subdomain, c);
    checks::optional(e, "hostname", names::dns1123_label, c);
    c.at("hints", |c| {
        hints(e, "hints.forZones", names::label_value, c);
        hints(e, "hints.forNodes", names::dns1123_subdomain, c);
    });
}

fn address(text: &str, kind: &str, c: &mut Causes) {
    let (problems, fits, wrong) = match kind {
        "IPv4" => (
            net::ip(text),
            !text.contains(':'),
            "must be an IPv4 address",
        ),
        "IPv6" => (
            net::ip_strict(text),
            text.contains(':'),
            "must be an IPv6 address",
        ),
        "FQDN" => (names::dns1123_subdomain(text), true, ""),
        _ => return,
    };
    let parses = problems.is_empty();
    checks::all(text, problems, c);
    if kind == "FQDN" {
        return;
    }
    if parses && !fits {
        c.invalid(&json!(text), wrong);
    }
    checks::all(text, net::endpoint_ip(text), c);
}

fn hints(e: &Value, path: &str, check: fn(&str) -> Vec<String>, c: &mut Causes) {
    let all = list_at(e, path);
    let field = path.rsplit('.').next().unwrap_or(path);
    c.at(field, |c| {
        if all.len() > HINTS_MAX {
            c.too_many(all.len(), HINTS_MAX);
            return;
        }
        let mut seen = BTreeSet::new();
        for (i, h) in all.iter().enumerate() {
            let name = str_at(h, "name");
            c.index(i, |c| {
                c.at("name", |c| {
                    if !seen.insert(name) {
                        c.duplicate(&json!(name));
                    }
                    checks::all(name, check(name), c);
                });
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_as_upstream_names_them() {
        let mut c = Causes::new();
        let mut obj = json!({"addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a"}],
            "endpoints": [{}, {"addresses": ["::1"]}]});
        EndpointSlice.set_defaults(&mut obj);
        EndpointSlice.validate(&obj, &mut c);
        let texts: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
        assert_eq!(
            texts,
            [
                "ports[1].name: Duplicate value: \"a\"",
                "endpoints[0].addresses: Required value",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ]
        );
    }
}
