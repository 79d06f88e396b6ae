//! Endpoints. Upstream: pkg/registry/core/endpoint, ValidateEndpoints; validation-core §9.

use api::names;
use jiff::Timestamp;
use machinery::object::{i64_at, list_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::pod_spec::each;
use crate::cells;
use crate::checks::{self, net};

struct Endpoints;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let mut d = Descriptor::new(
        "",
        "v1",
        "Endpoints",
        "endpoints",
        Scope::Namespaced,
        Endpoints,
    )
    .short(&["ep"]);
    d.storage_prefix = "services/endpoints".into();
    d
}

impl Strategy for Endpoints {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        each(obj, "subsets", |s| {
            each(s, "ports", |p| {
                if str_at(p, "protocol").is_empty() {
                    p["protocol"] = json!("TCP");
                }
            });
        });
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        for (i, s) in list_at(obj, "subsets").iter().enumerate() {
            causes.at("subsets", |c| c.index(i, |c| subset(s, c)));
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        if obj.get("subsets") != before.get("subsets") {
            self.validate(obj, causes);
        }
    }

    fn deprecation(&self) -> Option<&str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let label = obj.pointer("/metadata/labels/endpoints.kubernetes.io~1managed-by");
        if label.and_then(Value::as_str) == Some("endpoint-controller") {
            return out;
        }
        for (i, s) in list_at(obj, "subsets").iter().enumerate() {
            for field in ["addresses", "notReadyAddresses"] {
                for (j, a) in list_at(s, field).iter().enumerate() {
                    let path = format!("subsets[{i}].{field}[{j}].ip");
                    net::ip_warnings(&path, str_at(a, "ip"), &mut out);
                }
            }
        }
        out
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Endpoints"), Column::new("Age")]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(addresses(list_at(obj, "subsets"))),
            cells::age(obj, now),
        ]
    }
}

fn subset(s: &Value, c: &mut Causes) {
    let (ready, not_ready) = (list_at(s, "addresses"), list_at(s, "notReadyAddresses"));
    if ready.is_empty() && not_ready.is_empty() {
        c.required("must specify `addresses` or `notReadyAddresses`");
    }
    for (field, all) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, a) in all.iter().enumerate() {
            c.at(field, |c| c.index(i, |c| address(a, c)));
        }
    }
    let ports = list_at(s, "ports");
    for (i, p) in ports.iter().enumerate() {
        c.at("ports", |c| c.index(i, |c| port(p, ports.len() > 1, c)));
    }
}

fn address(a: &Value, c: &mut Causes) {
    let ip = str_at(a, "ip");
    c.at("ip", |c| checks::all(ip, net::ip(ip), c));
    checks::optional(a, "hostname", names::dns1123_label, c);
    checks::optional(a, "nodeName", names::dns1123_subdomain, c);
    c.at("ip", |c| checks::all(ip, net::endpoint_ip(ip), c));
}

fn port(p: &Value, named: bool, c: &mut Causes) {
    if named && str_at(p, "name").is_empty() {
        c.at("name", |c| c.required(""));
    }
    checks::optional(p, "name", names::dns1123_label, c);
    c.at("port", |c| {
        checks::port_number(i64_at(p, "port").unwrap_or(0), c);
    });
    checks::one_of(p, "protocol", &["SCTP", "TCP", "UDP"], c);
    checks::optional(p, "appProtocol", names::qualified_name, c);
}

/// The Endpoints cell.
fn addresses(subsets: &[Value]) -> String {
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for s in subsets {
        let ips = list_at(s, "addresses").iter().map(|a| str_at(a, "ip"));
        let ports = list_at(s, "ports");
        if ports.is_empty() {
            all.extend(ips.clone().map(str::to_string));
        }
        for p in ports {
            let n = i64_at(p, "port").unwrap_or(0);
            all.extend(ips.clone().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{n}"),
                false => format!("{ip}:{n}"),
            }));
        }
    }
    cells::more(&all, 3, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_shown() {
        let mut c = Causes::new();
        let obj =
            json!({"subsets": [{}, {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]});
        Endpoints.validate(&obj, &mut c);
        let texts: Vec<String> = c.as_slice().iter().map(|c| c.text()).collect();
        assert_eq!(
            texts,
            [
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[1].ports[0].protocol: Required value",
            ]
        );
        let four: Vec<Value> = (1..5)
            .map(|n| json!({"ip": format!("10.0.0.{n}")}))
            .collect();
        assert_eq!(
            addresses(&[json!({"addresses": four, "ports": [{"port": 80}]})]),
            "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."
        );
        assert_eq!(addresses(&[]), "<none>");
    }
}
