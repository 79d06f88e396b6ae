//! NetworkPolicy. Upstream: pkg/registry/networking/networkpolicy, pkg/apis/networking/validation.

use std::net::IpAddr;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, at_mut, i64_at, list_at, set, set_default, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy};
use serde_json::{Value, json};

use super::GROUP;
use crate::cells;
use crate::checks::{self, net};
use crate::fields;

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

struct NetworkPolicy;

/// The kind's descriptor.
pub fn resource() -> Descriptor {
    Descriptor::new(
        GROUP,
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        Scope::Namespaced,
        NetworkPolicy,
    )
    .short(&["netpol"])
}

impl Strategy for NetworkPolicy {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::subdomain_name(name, prefix)
    }

    fn set_defaults(&self, obj: &mut Value) {
        set_default(obj, "spec.podSelector", json!({}));
        if list_at(obj, "spec.policyTypes").is_empty() {
            let types = if list_at(obj, "spec.egress").is_empty() {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            set(obj, "spec.policyTypes", types);
        }
        for (direction, _) in DIRECTIONS {
            let Some(Value::Array(rules)) = at_mut(obj, &format!("spec.{direction}")) else {
                continue;
            };
            for rule in rules {
                let Some(Value::Array(ports)) = rule.get_mut("ports") else {
                    continue;
                };
                for port in ports.iter_mut().filter(|p| p.is_object()) {
                    set_default(port, "protocol", json!("TCP"));
                }
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        spec_rules(obj, &[], causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        let known = networks(before);
        spec_rules(obj, &known, causes);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Pod-Selector"),
            Column::new("Age"),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            cells::selector(at(obj, "spec.podSelector")),
            cells::age(obj, now),
        ]
    }
}

/// All networks a policy names.
fn networks(obj: &Value) -> Vec<&str> {
    let mut out = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for rule in list_at(obj, &format!("spec.{direction}")) {
            for peer in list_at(rule, peers) {
                out.push(str_at(peer, "ipBlock.cidr"));
                let except = list_at(peer, "ipBlock.except");
                out.extend(except.iter().filter_map(Value::as_str));
            }
        }
    }
    out
}

fn spec_rules(obj: &Value, known: &[&str], causes: &mut Causes) {
    let spec = obj.get("spec").unwrap_or(&Value::Null);
    causes.at("spec", |c| {
        fields::label_selector(spec, "podSelector", c);
        for (direction, peers) in DIRECTIONS {
            for (i, rule) in list_at(spec, direction).iter().enumerate() {
                c.at(direction, |c| {
                    c.index(i, |c| {
                        for (j, port) in list_at(rule, "ports").iter().enumerate() {
                            c.at("ports", |c| c.index(j, |c| port_rules(port, c)));
                        }
                        for (j, one) in list_at(rule, peers).iter().enumerate() {
                            c.at(peers, |c| c.index(j, |c| peer(one, known, c)));
                        }
                    });
                });
            }
        }
        let types = list_at(spec, "policyTypes");
        c.at("policyTypes", |c| {
            if types.len() > 2 {
                return c.invalid(&json!(types), "may not specify more than two policyTypes");
            }
            for (i, kind) in types.iter().enumerate() {
                let all = ["Ingress", "Egress"];
                if !all.contains(&kind.as_str().unwrap_or("")) {
                    c.index(i, |c| fields::unsupported(c, kind, &all));
                }
            }
        });
    });
}

fn port_rules(port: &Value, c: &mut Causes) {
    fields::enumerated(port, "protocol", PROTOCOLS, c);
    let end = i64_at(port, "endPort");
    match at(port, "port") {
        Some(Value::String(name)) => {
            if let Some(n) = end {
                c.at("endPort", |c| {
                    c.invalid(&json!(n), "may not be specified when `port` is non-numeric");
                });
            }
            c.at("port", |c| fields::text(name, checks::port_name, c));
        }
        Some(number) => {
            let n = number.as_i64().unwrap_or(0);
            c.at("port", |c| checks::port_number(n, c));
            if let Some(end) = end {
                c.at("endPort", |c| {
                    if end < n {
                        c.invalid(number, "must be greater than or equal to `port`");
                    }
                    checks::port_number(end, c);
                });
            }
        }
        None => {
            if let Some(n) = end {
                c.at("endPort", |c| {
                    c.invalid(
                        &json!(n),
                        "may not be specified when `port` is not specified",
                    );
                });
            }
        }
    }
}

fn peer(peer: &Value, known: &[&str], c: &mut Causes) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if at(peer, field).is_some() {
            count += 1;
            fields::label_selector(peer, field, c);
        }
    }
    let block = at(peer, "ipBlock");
    if let Some(block) = block {
        count += 1;
        c.at("ipBlock", |c| ip_block(block, known, c));
    }
    if count == 0 {
        c.required("must specify a peer");
    } else if count > 1 && block.is_some() {
        c.forbidden("may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, known: &[&str], c: &mut Causes) {
    let cidr = str_at(block, "cidr");
    let check = |text: &str, c: &mut Causes| {
        if !known.contains(&text) {
            fields::text(text, net::cidr, c);
        }
    };
    if cidr.is_empty() {
        return c.at("cidr", |c| c.required(""));
    }
    c.at("cidr", |c| check(cidr, c));
    let Some(outer) = parse(cidr) else { return };
    for (i, except) in list_at(block, "except").iter().enumerate() {
        let text = except.as_str().unwrap_or("");
        c.at("except", |c| {
            c.index(i, |c| {
                check(text, c);
                if parse(text).is_some_and(|inner| !is_within(inner, outer)) {
                    c.invalid(except, "must be a strict subset of `cidr`");
                }
            });
        });
    }
}

fn parse(cidr: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = cidr.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

/// Whether a network is a part of another one, and smaller.
fn is_within(inner: (IpAddr, u32), outer: (IpAddr, u32)) -> bool {
    let same = match (inner.0, outer.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let shift = 32 - outer.1.min(32);
            let cut = |ip: u32| u64::from(ip) >> shift;
            cut(u32::from(a)) == cut(u32::from(b))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let shift = 128 - outer.1.min(128);
            let cut = |ip: u128| ip.checked_shr(shift).unwrap_or(0);
            cut(u128::from(a)) == cut(u128::from(b))
        }
        _ => false,
    };
    same && outer.1 < inner.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::texts;

    #[test]
    fn defaults_follow_the_rules() {
        let mut obj = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
        NetworkPolicy.set_defaults(&mut obj);
        assert_eq!(obj["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(obj["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(texts(|c| NetworkPolicy.validate(&obj, c)), [""; 0]);
    }

    #[test]
    fn mistakes_read_as_upstreams() {
        for (from, ports, expected) in [
            (
                json!({}),
                json!([]),
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ),
            (
                json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
                json!([]),
                "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}),
                json!([]),
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            ),
            (
                json!({"podSelector": {}}),
                json!([{"port": 80, "endPort": 70}]),
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            ),
            (
                json!({"podSelector": {}}),
                json!([{"protocol": "x"}]),
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"x\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
        ] {
            let obj = json!({"spec": {"ingress": [{"from": [from], "ports": ports}]}});
            assert_eq!(texts(|c| NetworkPolicy.validate(&obj, c)), [expected]);
        }
    }
}
