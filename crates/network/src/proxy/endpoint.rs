//! Endpoints of Service ports, merged over slices, and which of them are used.
//! Upstream: pkg/proxy/endpointslicecache.go and topology.go.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::discovery::v1::EndpointSlice;

use super::service::{PortKey, ServicePort, parse_protocol};
use crate::limits;
use crate::rules::Ip;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Where a connection can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

/// Where this proxy runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub node: String,
    /// The node's topology zone, empty for none.
    pub zone: String,
}

/// Endpoints that a Service port's traffic goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub cluster: Vec<Endpoint>,
    pub local: Vec<Endpoint>,
    /// Some endpoint exists somewhere, even if this node must not use it.
    pub any: bool,
}

/// All endpoints of a family by Service port, each list sorted and without duplicates.
pub(crate) fn collect(
    slices: &[Arc<EndpointSlice>],
    ip: Ip,
    place: &Place,
) -> HashMap<PortKey, Vec<Endpoint>> {
    let mut merged: HashMap<PortKey, BTreeMap<String, Endpoint>> = HashMap::new();
    let family = if ip.is_v6() { "IPv6" } else { "IPv4" };
    for slice in slices.iter().filter(|s| s.address_type == family) {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|l| l.get(SERVICE_LABEL)) else {
            continue;
        };
        if labels.is_some_and(|l| l.contains_key(HEADLESS_LABEL)) {
            continue;
        }
        for port in slice.ports.iter().flatten() {
            // Upstream: a port without name or number is no Service port's.
            let (Some(name), Some(number)) = (&port.name, port.port) else {
                continue;
            };
            let number = u16::try_from(number).unwrap_or(0);
            let Some(protocol) = parse_protocol(port.protocol.as_deref()) else {
                continue;
            };
            if number == 0 {
                continue;
            }
            let key = PortKey {
                namespace: slice.metadata.namespace.clone().unwrap_or_default(),
                service: service.clone(),
                port: name.clone(),
                protocol,
            };
            merge(merged.entry(key).or_default(), slice, number, ip, place);
        }
    }
    let lists = merged.into_iter().map(|(key, all)| {
        let list = all.into_values().take(limits::ENDPOINTS_MAX).collect();
        (key, list)
    });
    lists.collect()
}

fn merge(
    into: &mut BTreeMap<String, Endpoint>,
    slice: &EndpointSlice,
    port: u16,
    ip: Ip,
    place: &Place,
) {
    for e in slice.endpoints.iter().flatten() {
        let address = e.addresses.first().and_then(|a| a.parse::<IpAddr>().ok());
        let Some(address) = address.filter(|a| a.is_ipv6() == ip.is_v6()) else {
            continue;
        };
        let conditions = e.conditions.as_ref();
        let hints = e.hints.as_ref();
        let endpoint = Endpoint {
            ip: address,
            port,
            ready: conditions.and_then(|c| c.ready).unwrap_or(true),
            serving: conditions.and_then(|c| c.serving).unwrap_or(true),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
            local: e.node_name.as_deref() == Some(&place.node),
            zones: hints
                .iter()
                .flat_map(|h| h.for_zones.iter().flatten().map(|z| z.name.clone()))
                .collect(),
            nodes: hints
                .iter()
                .flat_map(|h| h.for_nodes.iter().flatten().map(|n| n.name.clone()))
                .collect(),
        };
        let key = format!("{address}:{port}");
        match into.get(&key) {
            Some(known) if !known.terminating || endpoint.terminating => {}
            _ => {
                into.insert(key, endpoint);
            }
        }
    }
}

/// Which endpoints a Service port uses on this node.
pub(crate) fn choose(port: &ServicePort, all: &[Endpoint], place: &Place) -> Chosen {
    let leaving = |e: &Endpoint| e.serving && e.terminating;
    let ready: Vec<_> = all.iter().filter(|e| e.ready).collect();
    let mut chosen = Chosen::default();
    if port.uses_cluster() {
        let near = fitting(&ready, place);
        chosen.cluster = near.into_iter().cloned().collect();
        if chosen.cluster.is_empty() {
            chosen.cluster = all.iter().filter(|e| leaving(e)).cloned().collect();
        }
    }
    if port.uses_local() {
        chosen.local = ready
            .iter()
            .filter(|e| e.local)
            .map(|e| (*e).clone())
            .collect();
        if chosen.local.is_empty() {
            let left = all.iter().filter(|e| e.local && leaving(e));
            chosen.local = left.cloned().collect();
        }
    }
    chosen.any = !chosen.cluster.is_empty()
        || (port.uses_local() && all.iter().any(|e| e.ready || leaving(e)));
    chosen
}

/// Ready endpoints that the slices' hints mean for this node; all where hints are missing or useless.
fn fitting<'a>(ready: &[&'a Endpoint], place: &Place) -> Vec<&'a Endpoint> {
    let on_node = |e: &&&Endpoint| e.nodes.contains(&place.node);
    if ready.iter().all(|e| !e.nodes.is_empty()) && ready.iter().any(|e| on_node(&e)) {
        return ready.iter().filter(on_node).copied().collect();
    }
    let in_zone = |e: &&&Endpoint| e.zones.contains(&place.zone);
    let zoned = !place.zone.is_empty() && ready.iter().all(|e| !e.zones.is_empty());
    if zoned && ready.iter().any(|e| in_zone(&e)) {
        return ready.iter().filter(in_zone).copied().collect();
    }
    ready.to_vec()
}
