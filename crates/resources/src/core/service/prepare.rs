//! Defaults of a service, and what is kept or dropped when it changes. validation-core §14.1.

use std::collections::BTreeMap;

use machinery::object::{at, i64_at, list_at, remove, set, set_default, str_at};
use machinery::strategy::keep;
use serde_json::{Value, json};

use super::super::pod_spec::each;
use super::{
    externally_accessible, is_external_name, kind, needs_health_check_port, needs_node_ports,
};

/// Seconds that a client stays with its backend.
const CLIENT_IP_SECONDS: i64 = 10_800;

/// Defaults.
pub fn defaults(obj: &mut Value) {
    if !obj.get("spec").is_some_and(Value::is_object) {
        set(obj, "spec", json!({}));
    }
    let empty = |obj: &Value, path: &str| str_at(obj, path).is_empty();
    if empty(obj, "spec.sessionAffinity") {
        set(obj, "spec.sessionAffinity", json!("None"));
    }
    match str_at(obj, "spec.sessionAffinity") {
        "None" => {
            remove(obj, "spec.sessionAffinityConfig");
        }
        "ClientIP" => set_default(
            obj,
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            json!(CLIENT_IP_SECONDS),
        ),
        _ => {}
    }
    if empty(obj, "spec.type") {
        set(obj, "spec.type", json!("ClusterIP"));
    }
    if let Some(spec) = obj.get_mut("spec") {
        each(spec, "ports", |p| {
            if str_at(p, "protocol").is_empty() {
                set(p, "protocol", json!("TCP"));
            }
            let target = p.get("targetPort").cloned().unwrap_or_default();
            if target.is_null() || target == json!(0) || target == json!("") {
                let port = i64_at(p, "port").unwrap_or(0);
                set(p, "targetPort", json!(port));
            }
        });
    }
    if externally_accessible(obj) && empty(obj, "spec.externalTrafficPolicy") {
        set(obj, "spec.externalTrafficPolicy", json!("Cluster"));
    }
    if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind(obj)) {
        set_default(obj, "spec.internalTrafficPolicy", json!("Cluster"));
    }
    if kind(obj) == "LoadBalancer" {
        set_default(obj, "spec.allocateLoadBalancerNodePorts", json!(true));
        if let Some(balancer) = obj.pointer_mut("/status/loadBalancer") {
            each(balancer, "ingress", |i| {
                if !str_at(i, "ip").is_empty() {
                    set_default(i, "ipMode", json!("VIP"));
                }
            });
        }
    }
}

/// A new service.
pub fn create(obj: &mut Value) {
    set(obj, "status", json!({"loadBalancer": {}}));
    let one = str_at(obj, "spec.clusterIP").to_string();
    if !one.is_empty() && list_at(obj, "spec.clusterIPs").is_empty() {
        set(obj, "spec.clusterIPs", json!([one]));
    }
}

/// A changed service: what was allocated and not sent again stays, what the new type cannot have goes.
pub fn update(obj: &mut Value, before: &Value) {
    patch(obj, before);
    normalise(obj, before);
    keep(obj, before, "status");
    drop_for_type(obj, before);
}

fn patch(obj: &mut Value, before: &Value) {
    if !is_external_name(obj) && !is_external_name(before) {
        if str_at(obj, "spec.clusterIP").is_empty() {
            copy(obj, before, "spec.clusterIP");
        }
        let same = str_at(obj, "spec.clusterIP") == str_at(before, "spec.clusterIP");
        if same && list_at(obj, "spec.clusterIPs").is_empty() {
            copy(obj, before, "spec.clusterIPs");
        }
    }
    if needs_node_ports(obj) && needs_node_ports(before) {
        let number = |p: &Value| i64_at(p, "nodePort").unwrap_or(0);
        let mut used: Vec<i64> = list_at(obj, "spec.ports").iter().map(number).collect();
        let old: BTreeMap<&str, i64> = list_at(before, "spec.ports")
            .iter()
            .map(|p| (str_at(p, "name"), number(p)))
            .collect();
        if let Some(Value::Array(ports)) = obj.pointer_mut("/spec/ports") {
            for p in ports {
                let Some(n) = old.get(str_at(p, "name")).filter(|_| number(p) == 0) else {
                    continue;
                };
                if *n != 0 && !used.contains(n) {
                    used.push(*n);
                    set(p, "nodePort", json!(n));
                }
            }
        }
    }
    if needs_health_check_port(obj)
        && needs_health_check_port(before)
        && i64_at(obj, "spec.healthCheckNodePort").unwrap_or(0) == 0
    {
        copy(obj, before, "spec.healthCheckNodePort");
    }
}

fn copy(obj: &mut Value, before: &Value, path: &str) {
    if let Some(v) = at(before, path) {
        set(obj, path, v.clone());
    }
}

/// spec.clusterIP and spec.clusterIPs where the client changed only one of them.
fn normalise(obj: &mut Value, before: &Value) {
    let (new, old) = (
        str_at(obj, "spec.clusterIP").to_string(),
        str_at(before, "spec.clusterIP"),
    );
    let list = list_at(obj, "spec.clusterIPs");
    if list.is_empty() {
        if new == old {
            copy(obj, before, "spec.clusterIPs");
        } else if !new.is_empty() && old.is_empty() {
            set(obj, "spec.clusterIPs", json!([new]));
        }
        return;
    }
    if new != old && list == list_at(before, "spec.clusterIPs") {
        if new.is_empty() {
            remove(obj, "spec.clusterIPs");
        } else {
            set(obj, "spec.clusterIPs", json!([new]));
        }
    }
}

fn drop_for_type(obj: &mut Value, before: &Value) {
    let drop_same = |obj: &mut Value, path: &str| {
        if at(obj, path) == at(before, path) {
            remove(obj, path);
        }
    };
    if is_external_name(obj) && !is_external_name(before) {
        let ips_same = at(obj, "spec.clusterIP") == at(before, "spec.clusterIP")
            && at(obj, "spec.clusterIPs") == at(before, "spec.clusterIPs");
        if ips_same {
            remove(obj, "spec.clusterIP");
            remove(obj, "spec.clusterIPs");
        }
        drop_same(obj, "spec.ipFamilies");
        drop_same(obj, "spec.ipFamilyPolicy");
    }
    if needs_node_ports(before) && !needs_node_ports(obj) {
        let number = |p: &Value| i64_at(p, "nodePort").unwrap_or(0);
        let old: Vec<i64> = list_at(before, "spec.ports").iter().map(number).collect();
        let new = list_at(obj, "spec.ports");
        if new
            .iter()
            .all(|p| number(p) == 0 || old.contains(&number(p)))
            && let Some(spec) = obj.get_mut("spec")
        {
            each(spec, "ports", |p| {
                remove(p, "nodePort");
            });
        }
    }
    if needs_health_check_port(before) && !needs_health_check_port(obj) {
        drop_same(obj, "spec.healthCheckNodePort");
    }
    if kind(before) == "LoadBalancer" && kind(obj) != "LoadBalancer" {
        drop_same(obj, "spec.allocateLoadBalancerNodePorts");
        drop_same(obj, "spec.loadBalancerClass");
    }
    if externally_accessible(before) && !externally_accessible(obj) {
        drop_same(obj, "spec.externalTrafficPolicy");
    }
    if is_external_name(obj) && !is_external_name(before) {
        // Upstream: an ExternalName has no internal traffic policy; the old one goes with the type.
        drop_same(obj, "spec.internalTrafficPolicy");
    }
    if kind(obj) != "LoadBalancer" {
        set(obj, "status.loadBalancer", json!({}));
    }
}
