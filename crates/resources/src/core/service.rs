//! Service. Upstream: pkg/registry/core/service; validation-core §14.
//! `allocate` reserves what a service needs outside itself: cluster IPs and node ports.

pub mod allocate;
mod change;
mod families;
mod pool;
mod prepare;
mod rules;

use std::collections::BTreeSet;

use api::names;
use jiff::Timestamp;
use machinery::object::{at, bool_at, i64_at, list_at, map_at, str_at};
use machinery::{Causes, Column, Descriptor, Row, Scope, Strategy, WriteContext};
use serde_json::{Value, json};

use super::pod;
use crate::cells;
use crate::checks::net;

struct Service;

/// The kind's descriptor, without allocators: `crate::all` adds them.
pub fn resource() -> Descriptor {
    let all = &["create", "delete", "get", "patch", "update"];
    let mut d = Descriptor::new("", "v1", "Service", "services", Scope::Namespaced, Service)
        .short(&["svc"])
        .category(&["all"])
        .sub("proxy", pod::connect(all, "ServiceProxyOptions"))
        .status();
    d.storage_prefix = "services/specs".into();
    d
}

impl Strategy for Service {
    fn name_problems(&self, name: &str, prefix: bool) -> Vec<String> {
        names::label_name(name, prefix)
    }

    fn has_status(&self) -> bool {
        true
    }

    fn set_defaults(&self, obj: &mut Value) {
        prepare::defaults(obj);
    }

    fn prepare_create(&self, obj: &mut Value, _cx: &WriteContext) {
        prepare::create(obj);
    }

    fn prepare_update(&self, obj: &mut Value, before: &Value, _cx: &WriteContext) {
        prepare::update(obj, before);
    }

    fn validate(&self, obj: &Value, causes: &mut Causes) {
        rules::all(obj, None, causes);
    }

    fn validate_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        change::all(obj, before, causes);
        rules::all(obj, Some(before), causes);
    }

    fn validate_status_update(&self, obj: &Value, before: &Value, causes: &mut Causes) {
        rules::status(obj, before, causes);
    }

    fn warnings(&self, obj: &Value, _before: Option<&Value>) -> Vec<String> {
        warnings(obj)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn selectable_keys(&self) -> &[&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        ["spec.clusterIP", "spec.type"]
            .map(|key| (key, str_at(obj, key).to_string()))
            .to_vec()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Type"),
            Column::new("Cluster-IP"),
            Column::new("External-IP"),
            Column::new("Port(s)"),
            Column::new("Age"),
            Column::new("Selector").wide(),
        ]
    }

    fn row(&self, obj: &Value, now: Timestamp) -> Row {
        vec![
            cells::name(obj),
            json!(str_at(obj, "spec.type")),
            cells::or_none(cluster_ips(obj).first().copied().unwrap_or("")),
            json!(external(obj)),
            cells::or_none(&ports(obj)),
            cells::age(obj, now),
            cells::label_map(map_at(obj, "spec.selector")),
        ]
    }
}

/// The texts of a list.
fn texts<'a>(obj: &'a Value, path: &str) -> Vec<&'a str> {
    list_at(obj, path)
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// spec.clusterIPs, or spec.clusterIP alone.
fn cluster_ips(obj: &Value) -> Vec<&str> {
    let all = texts(obj, "spec.clusterIPs");
    match str_at(obj, "spec.clusterIP") {
        one if all.is_empty() && !one.is_empty() => vec![one],
        _ => all,
    }
}

fn kind(obj: &Value) -> &str {
    str_at(obj, "spec.type")
}

fn is_external_name(obj: &Value) -> bool {
    kind(obj) == "ExternalName"
}

fn is_headless(obj: &Value) -> bool {
    cluster_ips(obj) == ["None"]
}

/// Whether the type has node ports, and they are wanted.
fn needs_node_ports(obj: &Value) -> bool {
    let wanted = bool_at(obj, "spec.allocateLoadBalancerNodePorts") != Some(false);
    kind(obj) == "NodePort" || (kind(obj) == "LoadBalancer" && wanted)
}

fn needs_health_check_port(obj: &Value) -> bool {
    kind(obj) == "LoadBalancer" && str_at(obj, "spec.externalTrafficPolicy") == "Local"
}

/// Whether traffic from outside reaches it.
fn externally_accessible(obj: &Value) -> bool {
    ["LoadBalancer", "NodePort"].contains(&kind(obj))
        || (kind(obj) == "ClusterIP" && !list_at(obj, "spec.externalIPs").is_empty())
}

fn external(obj: &Value) -> String {
    let ips = texts(obj, "spec.externalIPs").join(",");
    match kind(obj) {
        "ClusterIP" | "NodePort" if ips.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => ips,
        "LoadBalancer" => {
            let mut all = load_balancer(list_at(obj, "status.loadBalancer.ingress"));
            if !ips.is_empty() {
                let comma = if all.is_empty() { "" } else { "," };
                all = format!("{all}{comma}{ips}");
            }
            if all.is_empty() {
                "<pending>".into()
            } else {
                all
            }
        }
        "ExternalName" => str_at(obj, "spec.externalName").into(),
        _ => "<unknown>".into(),
    }
}

/// Addresses of a load balancer, sorted, joined by commas.
pub fn load_balancer(ingress: &[Value]) -> String {
    let all: BTreeSet<&str> = ingress
        .iter()
        .map(|i| match str_at(i, "ip") {
            "" => str_at(i, "hostname"),
            ip => ip,
        })
        .filter(|t| !t.is_empty())
        .collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

fn ports(obj: &Value) -> String {
    let one = |p: &Value| {
        let (port, protocol) = (i64_at(p, "port").unwrap_or(0), str_at(p, "protocol"));
        match i64_at(p, "nodePort").unwrap_or(0) {
            0 => format!("{port}/{protocol}"),
            node => format!("{port}:{node}/{protocol}"),
        }
    };
    let all: Vec<String> = list_at(obj, "spec.ports").iter().map(one).collect();
    all.join(",")
}

fn warnings(obj: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let hints = "service.kubernetes.io/topology-aware-hints";
    if map_at(obj, "metadata.annotations").is_some_and(|a| a.contains_key(hints)) {
        out.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let external = texts(obj, "spec.externalIPs");
    if is_headless(obj) {
        let given = [
            (
                "loadBalancerIP",
                !str_at(obj, "spec.loadBalancerIP").is_empty(),
            ),
            ("externalIPs", !external.is_empty()),
            (
                "SessionAffinity",
                str_at(obj, "spec.sessionAffinity") == "ClientIP",
            ),
        ];
        for (field, _) in given.iter().filter(|(_, given)| *given) {
            out.push(format!("spec.{field} is ignored for headless services"));
        }
    } else {
        for (i, ip) in texts(obj, "spec.clusterIPs").iter().enumerate() {
            net::ip_warnings(&format!("spec.clusterIPs[{i}]"), ip, &mut out);
        }
        for (i, ip) in external.iter().enumerate() {
            net::ip_warnings(&format!("spec.externalIPs[{i}]"), ip, &mut out);
        }
        if !external.is_empty() && !is_external_name(obj) {
            out.push(
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                    .into(),
            );
        }
    }
    if is_external_name(obj) && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !is_external_name(obj) && !str_at(obj, "spec.externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if at(obj, "spec.trafficDistribution") == Some(&json!("PreferClose")) {
        out.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .into(),
        );
    }
    out
}

#[cfg(test)]
mod tests;
