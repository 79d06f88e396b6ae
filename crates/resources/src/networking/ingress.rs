//! Ingress. Upstream: pkg/registry/networking/ingress, pkg/apis/networking/validation.

use std::net::IpAddr;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, i64_at, list_at, map_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::checks::{self, net};
use crate::fields;

/// The class's older place.
const CLASS_NOTE: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];

struct Ingress;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    let mut d = Descriptor::new(
        GROUP,
        "v1",
        "Ingress",
        "ingresses",
        Scope::Namespaced,
        Ingress,
    )
    .short(&["ing"])
    .status();
    d.storage_prefix = "ingress".into();
    d
}

fn class_note(obj: &Value) -> Option<&str> {
    map_at(obj, "metadata.annotations")?
        .get(CLASS_NOTE)?
        .as_str()
}

impl Strategy for Ingress {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        causes.at("spec", |c| spec_rules(obj, None, c));
        if let (Some(note), Some(class)) = (class_note(obj), at(obj, "spec.ingressClassName"))
            && Some(note) != class.as_str()
        {
            causes.at("annotations.kubernetes.io/ingress.class", |c| {
                c.invalid(
                    &json!(note),
                    "must match `ingressClassName` when both are specified",
                );
            });
        }
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        causes.at("spec", |c| spec_rules(obj, Some(before), c));
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let known = list_at(before, "status.loadBalancer.ingress");
        let all = list_at(obj, "status.loadBalancer.ingress");
        causes.at("status.loadBalancer.ingress", |c| {
            for (i, one) in all.iter().enumerate() {
                let (ip, host) = (str_at(one, "ip"), str_at(one, "hostname"));
                c.index(i, |c| {
                    if !ip.is_empty() && !known.iter().any(|k| str_at(k, "ip") == ip) {
                        c.at("ip", |c| fields::text(ip, net::ip, c));
                    }
                    if !host.is_empty() {
                        c.at("hostname", |c| {
                            fields::text(host, names::dns1123_subdomain, c);
                            no_address(host, c);
                        });
                    }
                });
            }
        });
    }

    fn warnings(&self, obj: &Value, before: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if before.is_none()
            && class_note(obj).is_some()
            && at(obj, "spec.ingressClassName").is_none()
        {
            out.push(format!(
                "annotation \"{CLASS_NOTE}\" is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        let all = list_at(obj, "status.loadBalancer.ingress");
        for (i, one) in all.iter().enumerate().filter(|_| before.is_some()) {
            let path = format!("status.loadBalancer.ingress[{i}].ip");
            net::ip_warnings(&path, str_at(one, "ip"), &mut out);
        }
        out
    }

    fn columns(&self) -> Vec<Column> {
        ["Class", "Hosts", "Address", "Ports", "Age"]
            .into_iter()
            .fold(vec![Column::name()], |mut all, name| {
                all.push(Column::new(name));
                all
            })
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        let class = at(obj, "spec.ingressClassName").and_then(Value::as_str);
        let ports = if list_at(obj, "spec.tls").is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            cells::name(obj),
            json!(class.unwrap_or("<none>")),
            json!(hosts(obj)),
            json!(addresses(obj)),
            json!(ports),
            cells::age(obj, now),
        ]
    }
}

fn hosts(obj: &Value) -> String {
    let rules = list_at(obj, "spec.rules");
    let mut held: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        if held.len() == 3 {
            more = true;
        }
        let host = str_at(rule, "host");
        if !more && !host.is_empty() {
            held.push(host);
        }
    }
    let text = held.join(",");
    match (held.is_empty(), more) {
        (true, _) => "*".into(),
        (false, true) => format!("{text} + {} more...", rules.len() - 3),
        (false, false) => text,
    }
}

fn addresses(obj: &Value) -> String {
    let one = |i: &Value| match str_at(i, "ip") {
        "" => str_at(i, "hostname").to_string(),
        ip => ip.to_string(),
    };
    let mut all: Vec<String> = list_at(obj, "status.loadBalancer.ingress")
        .iter()
        .map(one)
        .filter(|t| !t.is_empty())
        .collect();
    all.sort();
    all.dedup();
    all.join(",")
}

fn no_address(host: &str, c: &mut Causes) {
    if host.parse::<IpAddr>().is_ok() {
        c.invalid(&json!(host), "must be a DNS name, not an IP address");
    }
}

fn spec_rules(obj: &Value, before: Option<&Value>, c: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    let rules = list_at(spec, "rules");
    let default = at(spec, "defaultBackend");
    if rules.is_empty() && default.is_none() {
        let shown = spec.get("rules").cloned().unwrap_or_default();
        c.invalid(
            &shown,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(default) = default {
        c.at("defaultBackend", |c| backend(default, c));
    }
    let old_rules = before.map_or(&[][..], |b| list_at(b, "spec.rules"));
    let lenient = old_rules.iter().any(|r| {
        let mut was = Causes::new();
        paths(r, &mut was);
        str_at(r, "host").contains('*') && !was.is_empty()
    });
    for (i, rule) in rules.iter().enumerate() {
        c.at("rules", |c| {
            c.index(i, |c| {
                let host = str_at(rule, "host");
                let wild = host.contains('*');
                if !host.is_empty() {
                    c.at("host", |c| {
                        no_address(host, c);
                        host_name(host, c);
                    });
                }
                if !(wild && lenient) {
                    paths(rule, c);
                }
            });
        });
    }
    tls(spec, before, c);
    if let Some(class) = at(spec, "ingressClassName").and_then(Value::as_str) {
        c.at("ingressClassName", |c| {
            fields::text(class, names::dns1123_subdomain, c);
        });
    }
}

fn host_name(host: &str, c: &mut Causes) {
    if host.contains('*') {
        fields::text(host, fields::wildcard_subdomain, c);
    } else {
        fields::text(host, names::dns1123_subdomain, c);
    }
}

fn tls(spec: &Value, before: Option<&Value>, c: &mut Causes) {
    let bad = |t: &Value| {
        let name = str_at(t, "secretName");
        !name.is_empty() && !names::dns1123_subdomain(name).is_empty()
    };
    let lenient = before.is_some_and(|b| list_at(b, "spec.tls").iter().any(bad));
    for (i, one) in list_at(spec, "tls").iter().enumerate() {
        c.at("tls", |c| {
            c.index(i, |c| {
                for (j, host) in list_at(one, "hosts").iter().enumerate() {
                    c.at("hosts", |c| {
                        c.index(j, |c| host_name(host.as_str().unwrap_or(""), c));
                    });
                }
                if !lenient {
                    fields::optional_text(one, "secretName", names::dns1123_subdomain, c);
                }
            });
        });
    }
}

fn paths(rule: &Value, c: &mut Causes) {
    if at(rule, "http").is_none() {
        return;
    }
    let all = list_at(rule, "http.paths");
    c.at("http.paths", |c| {
        if all.is_empty() {
            c.required("");
        }
        for (i, path) in all.iter().enumerate() {
            c.index(i, |c| path_rules(path, c));
        }
    });
}

fn path_rules(path: &Value, c: &mut Causes) {
    let Some(kind) = at(path, "pathType").and_then(Value::as_str) else {
        return c.at("pathType", |c| c.required("pathType must be specified"));
    };
    let text = str_at(path, "path");
    let shown = json!(text);
    c.at("path", |c| match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                c.invalid(&shown, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(bad) {
                    c.invalid(&shown, format!("must not contain '{bad}'"));
                }
            }
            for bad in ["/..", "/."] {
                if text.ends_with(bad) {
                    c.invalid(&shown, format!("cannot end with '{bad}'"));
                }
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
            c.invalid(&shown, "must be an absolute path");
        }
        _ => {}
    });
    if !PATH_TYPES.contains(&kind) {
        c.at("pathType", |c| {
            fields::unsupported(c, &json!(kind), PATH_TYPES);
        });
    }
    let target = at(path, "backend").unwrap_or(&Value::Null);
    c.at("backend", |c| backend(target, c));
}

fn backend(backend: &Value, c: &mut Causes) {
    let empty = json!("");
    match (at(backend, "resource"), at(backend, "service")) {
        (Some(_), Some(_)) => c.invalid(&empty, "cannot set both resource and service backends"),
        (None, None) => c.invalid(&empty, "resource or service backend is required"),
        (Some(resource), None) => c.at("resource", |c| {
            fields::optional_text(resource, "apiGroup", names::dns1123_subdomain, c);
            fields::required_segment(resource, "kind", c);
            fields::required_segment(resource, "name", c);
        }),
        (None, Some(service)) => {
            c.at("service", |c| {
                fields::required_text(service, "name", names::dns1123_label, c);
            });
            let name = str_at(service, "port.name");
            let number = i64_at(service, "port.number").unwrap_or(0);
            match (name.is_empty(), number) {
                (false, n) if n != 0 => {
                    c.invalid(&empty, "cannot set both port name & port number");
                }
                (false, _) => c.at("service.port.name", |c| {
                    fields::text(name, checks::port_name, c);
                }),
                (true, 0) => c.required("port name or number is required"),
                (true, n) => c.at("service.port.number", |c| checks::port_number(n, c)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    fn good() -> Value {
        json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "a.b", "http": {"paths": [
            {"path": "/x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}})
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        assert_eq!(texts(|c| Ingress.validate(&good(), c)), [""; 0]);
        for (path, value, expected) in [
            (
                "spec",
                json!({}),
                "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
            ),
            (
                "spec.defaultBackend",
                json!({}),
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                "spec.rules",
                json!([{"host": "1.2.3.4"}]),
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ),
            (
                "spec.rules",
                json!([{"http": {"paths": [{"path": "x"}]}}]),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                "spec.rules",
                json!([{"http": {"paths": [{"path": "/a//b", "pathType": "Exact", "backend": {"service": {"name": "s", "port": {"name": "p"}}}}]}}]),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                "metadata.annotations",
                json!({CLASS_NOTE: "x"}),
                "annotations.kubernetes.io/ingress.class: Invalid value: \"x\": must match `ingressClassName` when both are specified",
            ),
        ] {
            let mut obj = good();
            machinery::object::set(&mut obj, path, value);
            if path.starts_with("metadata") {
                obj["spec"]["ingressClassName"] = json!("y");
            }
            assert_eq!(texts(|c| Ingress.validate(&obj, c)), [expected]);
        }
    }

    #[test]
    fn many_hosts_are_cut() {
        let mut obj = good();
        let host = |h: &str| json!({"host": h});
        obj["spec"]["rules"] = json!([host("a"), host("b"), host("c"), host("d")]);
        assert_eq!(hosts(&obj), "a,b,c + 1 more...");
    }
}
