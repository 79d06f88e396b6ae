//! Plans of the proxy, without a kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use linux::netlink::conntrack::{Flow, Tuple};
use linux::nftables::{Data, Verdict};
use serde_json::{Value, json};

use super::conntrack::plan_stale;
use super::endpoint::Place;
use super::plan::{Plan, Surroundings, plan, table};
use crate::rules::Ip;

fn service(spec: Value) -> Arc<Service> {
    let mut s: Value = json!({"metadata":{"name":"web","namespace":"d"},
        "spec":{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],
            "ports":[{"name":"http","port":80,"protocol":"TCP"}]}});
    for (key, value) in spec.as_object().unwrap() {
        if key == "status" {
            s["status"] = value.clone();
        } else {
            s["spec"][key] = value.clone();
        }
    }
    Arc::new(serde_json::from_value(s).unwrap())
}

fn slice(endpoints: Value) -> Arc<EndpointSlice> {
    let s = json!({"metadata":{"name":"web-1","namespace":"d",
            "labels":{"kubernetes.io/service-name":"web"}},
        "addressType":"IPv4","endpoints":endpoints,
        "ports":[{"name":"http","port":8080,"protocol":"TCP"}]});
    Arc::new(serde_json::from_value(s).unwrap())
}

fn around() -> Surroundings {
    Surroundings {
        place: Place {
            node: "n1".into(),
            zone: "z1".into(),
        },
        pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        node_local_ips: BTreeSet::new(),
        node_ips: vec!["192.168.0.1".parse().unwrap()],
        masquerade_all: false,
    }
}

fn planned(spec: Value, endpoints: Value) -> Plan {
    plan(Ip::V4, &[service(spec)], &[slice(endpoints)], &around())
}

fn ep(ip: &str, node: &str) -> Value {
    json!({"addresses":[ip],"nodeName":node})
}

/// The verdicts of a map, as `chain prefix`, `drop` or `reject`.
fn verdicts(plan: &Plan, map: &str) -> Vec<String> {
    let elements = plan.model.sets[map].elements.values();
    elements
        .map(|d| match d {
            Some(Data::Verdict(Verdict::Goto(c))) if c == "reject-chain" => "reject".into(),
            Some(Data::Verdict(Verdict::Goto(c))) => c.split('-').next().unwrap().into(),
            Some(Data::Verdict(Verdict::Drop)) => "drop".into(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// Chains that exist for Services, by the first word of their names.
fn kinds(plan: &Plan) -> BTreeSet<String> {
    let named = plan
        .model
        .chains
        .keys()
        .filter(|c| c.contains("d/web/tcp/http"));
    named.map(|c| c.split('-').next().unwrap().into()).collect()
}

/// Texts of endpoints that appear in the rules of chains with a prefix.
fn uses(plan: &Plan, prefix: &str, ip: &str) -> bool {
    let octets = match ip.parse::<IpAddr>().unwrap() {
        IpAddr::V4(a) => format!("{:?}", a.octets()),
        IpAddr::V6(a) => format!("{:?}", a.octets()),
    };
    let octets = octets.trim_matches(['[', ']']).to_owned();
    let mut chains = plan
        .model
        .chains
        .iter()
        .filter(|(c, _)| c.starts_with(prefix));
    chains.any(|(_, c)| format!("{:?}", c.rules).contains(&octets))
}

#[test]
fn traffic_policies_decide_between_endpoints_drop_and_reject() {
    let two = || json!([ep("10.244.0.5", "n1"), ep("10.244.1.5", "n2")]);
    let far = || json!([ep("10.244.1.5", "n2")]);
    let none = || json!([]);
    let internal = || json!({"internalTrafficPolicy":"Local"});
    let external = || {
        json!({"type":"NodePort","externalTrafficPolicy":"Local",
        "ports":[{"name":"http","port":80,"nodePort":30080}]})
    };
    let ips = "service-ips";
    let no_ips = "no-endpoint-services";
    let no_ports = "no-endpoint-nodeports";
    // spec, endpoints, map, verdicts
    let cases = [
        (json!({}), two(), ips, vec!["service"]),
        (json!({}), none(), no_ips, vec!["reject"]),
        (internal(), two(), ips, vec!["local"]),
        (internal(), far(), no_ips, vec!["drop"]),
        (internal(), none(), no_ips, vec!["reject"]),
        (external(), two(), "service-nodeports", vec!["external"]),
        (external(), two(), no_ports, vec![]),
        (external(), far(), "service-nodeports", vec!["external"]),
        (external(), far(), no_ports, vec!["drop"]),
        (external(), none(), no_ports, vec!["reject"]),
        (external(), none(), "service-nodeports", vec![]),
    ];
    for (spec, endpoints, map, wanted) in cases {
        let plan = planned(spec.clone(), endpoints.clone());
        assert_eq!(verdicts(&plan, map), wanted, "{map} of {spec} {endpoints}");
    }
    let plan = planned(internal(), two());
    assert!(uses(&plan, "local-", "10.244.0.5") && !uses(&plan, "local-", "10.244.1.5"));
}

#[test]
fn services_that_are_not_the_proxys_are_left_alone() {
    for spec in [
        json!({"clusterIP":"None","clusterIPs":["None"]}),
        json!({"type":"ExternalName","externalName":"x.example"}),
    ] {
        let plan = planned(spec, json!([ep("10.244.0.5", "n1")]));
        assert!(kinds(&plan).is_empty());
    }
    let mut near = around();
    near.node_local_ips.insert("10.96.0.9".parse().unwrap());
    let all = [service(json!({}))];
    assert!(kinds(&plan(Ip::V4, &all, &[], &near)).is_empty());
    // An IPv4 Service does not exist in the IPv6 table.
    assert!(kinds(&plan(Ip::V6, &all, &[], &around())).is_empty());
}

#[test]
fn terminating_endpoints_serve_only_where_no_other_is_ready() {
    let leaving = json!({"addresses":["10.244.0.6"],"nodeName":"n1",
        "conditions":{"ready":false,"serving":true,"terminating":true}});
    let dead = json!({"addresses":["10.244.0.7"],"conditions":{"ready":false,"serving":false}});
    let plan = planned(json!({}), json!([ep("10.244.0.5", "n1"), leaving, dead]));
    assert!(uses(&plan, "service-", "10.244.0.5") && !uses(&plan, "service-", "10.244.0.6"));
    let plan = planned(json!({}), json!([leaving, dead]));
    assert!(uses(&plan, "service-", "10.244.0.6") && !uses(&plan, "service-", "10.244.0.7"));
}

#[test]
fn hints_keep_traffic_near_only_if_all_endpoints_have_them() {
    let hinted =
        |ip: &str, zone: &str| json!({"addresses":[ip],"hints":{"forZones":[{"name":zone}]}});
    let plan = planned(
        json!({}),
        json!([hinted("10.244.0.5", "z1"), hinted("10.244.0.6", "z2")]),
    );
    assert!(uses(&plan, "service-", "10.244.0.5") && !uses(&plan, "service-", "10.244.0.6"));
    let plan = planned(
        json!({}),
        json!([hinted("10.244.0.5", "z1"), ep("10.244.0.6", "n2")]),
    );
    assert!(uses(&plan, "service-", "10.244.0.6"));
    let plan = planned(
        json!({}),
        json!([hinted("10.244.0.5", "z2"), hinted("10.244.0.6", "z3")]),
    );
    assert!(uses(&plan, "service-", "10.244.0.5") && uses(&plan, "service-", "10.244.0.6"));
}

#[test]
fn load_balancer_ranges_make_a_firewall_for_its_addresses_only() {
    let spec = json!({"type":"LoadBalancer","loadBalancerSourceRanges":[" 203.0.113.0/24 "],
        "ports":[{"name":"http","port":80,"nodePort":30080}],
        "status":{"loadBalancer":{"ingress":[{"ip":"5.6.7.8"},{"ip":"5.6.7.9","ipMode":"Proxy"}]}}});
    let plan = planned(spec.clone(), json!([ep("10.244.0.5", "n1")]));
    assert_eq!(verdicts(&plan, "firewall-ips"), ["firewall"]);
    assert_eq!(verdicts(&plan, "service-ips"), ["external", "service"]);
    let mut open = spec;
    open["loadBalancerSourceRanges"] = json!(["0.0.0.0/0", "10.0.0.0/8"]);
    let plan = planned(open, json!([ep("10.244.0.5", "n1")]));
    assert!(verdicts(&plan, "firewall-ips").is_empty());
}

#[test]
fn affinity_gives_each_endpoint_a_set_of_clients() {
    let spec = json!({"sessionAffinity":"ClientIP",
        "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":90}}});
    let plan = planned(
        spec,
        json!([ep("10.244.0.5", "n1"), ep("10.244.0.6", "n1")]),
    );
    let sets: Vec<_> = plan.model.sets.values().filter(|s| s.set.dynamic).collect();
    assert_eq!(sets.len(), 2);
    assert!(sets.iter().all(|s| s.set.timeout_ms == Some(90_000)));
    assert_eq!(
        kinds(&plan).into_iter().collect::<Vec<_>>(),
        ["endpoint", "service"]
    );
}

#[test]
fn update_holds_only_what_changed() {
    let before = planned(json!({}), json!([ep("10.244.0.5", "n1")]));
    let same = planned(json!({}), json!([ep("10.244.0.5", "n1")]));
    assert!(
        same.model
            .plan_update(&before.model, table(Ip::V4))
            .is_empty()
    );
    let after = planned(json!({}), json!([]));
    let batch = format!(
        "{:?}",
        after.model.plan_update(&before.model, table(Ip::V4))
    );
    for part in [
        "flush chain service-",
        "delete chain service-",
        "delete elements of set service-ips",
    ] {
        assert!(batch.contains(part), "{part}");
    }
    assert!(!batch.contains("nat-prerouting"));
}

#[test]
fn stale_udp_flows_are_those_whose_answers_come_from_no_endpoint() {
    let spec = json!({"type":"NodePort",
        "ports":[{"name":"http","port":53,"protocol":"UDP","nodePort":30053}]});
    let mut s = (*slice(json!([ep("10.244.0.5", "n1")]))).clone();
    s.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
    let plan = plan(Ip::V4, &[service(spec)], &[Arc::new(s)], &around());
    let flow = |to: &str, port, from: &str, from_port| Flow {
        original: Tuple {
            source: "10.244.0.9".parse().unwrap(),
            source_port: 4000,
            destination: to.parse().unwrap(),
            destination_port: port,
            protocol: 17,
        },
        reply: Tuple {
            source: from.parse().unwrap(),
            source_port: from_port,
            destination: "10.244.0.9".parse().unwrap(),
            destination_port: 4000,
            protocol: 17,
        },
    };
    let own = BTreeSet::from(["192.168.0.1".parse().unwrap()]);
    let cases = [
        (flow("10.96.0.9", 53, "10.244.0.5", 8080), false),
        (flow("10.96.0.9", 53, "10.244.0.4", 8080), true),
        // Never translated: it began before there was an endpoint.
        (flow("10.96.0.9", 53, "10.96.0.9", 53), true),
        (flow("192.168.0.1", 30053, "10.244.0.4", 8080), true),
        (flow("8.8.8.8", 30053, "8.8.8.8", 30053), false),
        (flow("10.96.0.10", 53, "10.244.0.4", 53), false),
    ];
    for (flow, stale) in cases {
        let flows = [flow];
        assert_eq!(
            plan_stale(&flows, &plan.udp, &own).len() == 1,
            stale,
            "{flows:?}"
        );
    }
}

#[test]
fn strange_objects_do_not_panic() {
    let odd = planned(
        json!({"ports":[{"name":"http","port":-1},{"port":70000},{"port":1,"protocol":"X"}],
            "externalIPs":["x",""],"loadBalancerSourceRanges":["/","1.2.3.4"]}),
        json!([{"addresses":[]},{"addresses":["no"]},{"addresses":["::1"]}]),
    );
    assert!(verdicts(&odd, "service-ips").is_empty());
}
