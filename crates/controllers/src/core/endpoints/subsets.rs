//! Subsets of Endpoints in one canonical form. Upstream: pkg/api/v1/endpoints RepackSubsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Pod, Service};

use crate::common::{pods, service};

/// Identity of an address: its text and the pod behind it.
type AddressKey = (String, String);
/// A port in an order; no port at all sorts first.
type PortKey = Option<(String, i32, String, String)>;

#[derive(Clone)]
struct Point {
    address: EndpointAddress,
    port: Option<EndpointPort>,
    ready: bool,
}

/// The subsets of a service with these pods, and whether some did not fit.
pub fn of(service: &Service, pods: &[Arc<Pod>], max: usize) -> (Vec<EndpointSubset>, bool) {
    let publish = service
        .spec
        .as_ref()
        .is_some_and(|s| s.publish_not_ready_addresses == Some(true));
    let mut points: Vec<Vec<Point>> = Vec::new();
    for pod in pods.iter().filter(|p| service::shown(p, publish)) {
        let Some(address) = address(service, pod) else {
            continue;
        };
        let ready = publish || pods::ready(pod);
        let point = |port| Point {
            address: address.clone(),
            port,
            ready,
        };
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let mut own: Vec<Point> = ports
            .filter_map(|p| {
                Some(point(Some(EndpointPort {
                    name: p.name.clone().filter(|n| !n.is_empty()),
                    port: service::target_port(p, pod)?,
                    protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: p.app_protocol.clone(),
                })))
            })
            .collect();
        let none = service
            .spec
            .iter()
            .all(|s| s.ports.as_ref().is_none_or(Vec::is_empty));
        if none && service::headless(service) {
            own.push(point(None));
        }
        points.push(own);
    }
    let truncated = points.len() > max;
    if truncated {
        // Addresses that are not ready are cut first.
        points.sort_by_key(|p| p.first().is_none_or(|p| !p.ready));
        points.truncate(max);
    }
    (pack(points.into_iter().flatten().collect()), truncated)
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let ips = service::pod_ips(pod);
    let family = spec.ip_families.as_ref().and_then(|f| f.first());
    let ip = match (family, spec.cluster_ip.as_deref()) {
        (Some(family), _) => ips.into_iter().find(|ip| service::is_family(ip, family))?,
        (None, Some(cluster)) if service::is_family(cluster, "IPv6") => {
            ips.into_iter().find(|ip| service::is_family(ip, "IPv6"))?
        }
        (None, _) => ips.into_iter().next()?,
    };
    Some(EndpointAddress {
        ip,
        hostname: service::hostname(pod, service),
        node_name: Some(pods::node(pod).to_string()).filter(|n| !n.is_empty()),
        target_ref: Some(service::pod_reference(pod)),
    })
}

/// Subsets in canonical form: what they say decides their order and grouping.
pub fn canonical(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut points = Vec::new();
    for s in subsets {
        let ports: Vec<Option<EndpointPort>> = match s.ports.as_deref() {
            None | Some([]) => vec![None],
            Some(ports) => ports.iter().cloned().map(Some).collect(),
        };
        let ready = s.addresses.iter().flatten().map(|a| (a, true));
        let unready = s.not_ready_addresses.iter().flatten().map(|a| (a, false));
        for (address, ready) in ready.chain(unready) {
            for port in &ports {
                let mut address = address.clone();
                if let Some(target) = &mut address.target_ref {
                    target.resource_version = None;
                }
                points.push(Point {
                    address,
                    port: port.clone(),
                    ready,
                });
            }
        }
    }
    pack(points)
}

fn port_key(port: &Option<EndpointPort>) -> PortKey {
    port.as_ref().map(|p| {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        (
            text(&p.name),
            p.port,
            text(&p.protocol),
            text(&p.app_protocol),
        )
    })
}

fn address_key(a: &EndpointAddress) -> AddressKey {
    let uid = a.target_ref.as_ref().and_then(|t| t.uid.clone());
    (a.ip.clone(), uid.unwrap_or_default())
}

/// Ports with exactly the same addresses share a subset.
fn pack(points: Vec<Point>) -> Vec<EndpointSubset> {
    let mut ports: BTreeMap<PortKey, (Option<EndpointPort>, BTreeMap<AddressKey, bool>)> =
        BTreeMap::new();
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    for p in points {
        let key = address_key(&p.address);
        let port = ports
            .entry(port_key(&p.port))
            .or_insert((p.port, BTreeMap::new()));
        // Both ready and not ready counts as not ready.
        let ready = port.1.entry(key.clone()).or_insert(true);
        *ready &= p.ready;
        addresses.entry(key).or_insert(p.address);
    }
    let mut groups: BTreeMap<BTreeMap<AddressKey, bool>, Vec<EndpointPort>> = BTreeMap::new();
    for (port, ready) in ports.into_values() {
        groups.entry(ready).or_default().extend(port);
    }
    let subset = |(ready, ports): (BTreeMap<AddressKey, bool>, Vec<EndpointPort>)| {
        let of = |wanted: bool| {
            let some = ready.iter().filter(|(_, r)| **r == wanted);
            let list: Vec<EndpointAddress> = some
                .filter_map(|(k, _)| addresses.get(k).cloned())
                .collect();
            (!list.is_empty()).then_some(list)
        };
        EndpointSubset {
            addresses: of(true),
            not_ready_addresses: of(false),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    groups.into_iter().map(subset).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(n: u8, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let v = json!({"metadata": {"name": format!("p{n}"), "uid": format!("u{n}"), "namespace": "d"},
            "spec": {"containers": []},
            "status": {"phase": "Running", "podIP": format!("10.0.0.{n}"), "conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(v).unwrap())
    }

    fn service() -> Service {
        let v = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"clusterIP": "10.96.0.1",
            "selector": {"a": "b"}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn ports_of_the_same_addresses_share_a_subset() {
        let (subsets, truncated) = of(
            &service(),
            &[pod(2, true), pod(1, true), pod(3, false)],
            1000,
        );
        assert!(!truncated);
        assert_eq!(subsets.len(), 1);
        let ips = |a: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            a.iter().flatten().map(|a| a.ip.clone()).collect()
        };
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.3"]);
        assert_eq!(subsets[0].ports.as_ref().unwrap().len(), 2);
        assert_eq!(canonical(&subsets), subsets);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let (subsets, truncated) = of(&service(), &[pod(1, false), pod(2, true)], 1);
        assert!(truncated);
        assert_eq!(subsets[0].not_ready_addresses, None);
    }
}
