//! Host ports and masquerading of pods, as one nftables table for each family.
//! Upstream: CNI's portmap plugin and the bridge plugin's ipMasq.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cri::Protocol;
use linux::nftables::{
    Batch, ChainType, Data, DataType, Element, Expr, Hook, Key, Rule, Set, SetKind, Table,
};

use super::lease::Lease;
use crate::cidr::{Cidr, octets};
use crate::error::Error;
use crate::limits;
use crate::rules::{
    Ip, all, base, destination_local, destination_port, differs, equals, in_ranges, interface_name,
    jump, masquerade, member, protocol, status_dnat,
};

/// Name of the tables.
pub const TABLE: &str = "k0s-pods";
/// Host ports on all addresses of the node: protocol . port to address . port.
const PORTS: &str = "host-ports";
/// Host ports on one address: address . protocol . port to address . port.
const ADDRESS_PORTS: &str = "host-address-ports";
/// Pods with host ports, as address . address: a pod that reaches itself is masqueraded.
const HAIRPIN: &str = "hairpin";
const CHAIN: &str = "host-ports";

/// Elements of one family's sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Elements {
    pub ports: Vec<Element>,
    pub address_ports: Vec<Element>,
    pub hairpin: Vec<Element>,
}

/// The table of a family.
pub(crate) fn table(ip: Ip) -> Table {
    Table::new(ip.family(), TABLE)
}

/// A transaction that makes a family's table anew with all elements of `leases`.
pub(crate) fn plan_table<'a>(
    ip: Ip,
    bridge: &str,
    pods: &[Cidr],
    cluster: &[Cidr],
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<Batch, Error> {
    let mut b = Batch::new(table(ip));
    b.destroy_table();
    b.add_table();
    add_sets(&mut b, ip);
    b.add_chain(CHAIN, None);
    let nat = ChainType::Nat;
    b.add_chain(
        "guard",
        Some(base(ChainType::Filter, Hook::Prerouting, -300)),
    );
    b.add_chain("prerouting", Some(base(nat, Hook::Prerouting, -100)));
    b.add_chain("output", Some(base(nat, Hook::Output, -100)));
    b.add_chain("postrouting", Some(base(nat, Hook::Postrouting, 100)));
    if ip == Ip::V4 {
        // route_localnet, which host ports on 127.0.0.1 need, must not open the node's loopback to pods.
        let bridge_in = Expr::Meta {
            key: linux::nftables::MetaKey::IifName,
            register: linux::nftables::register::data(0),
        };
        let loopback = vec![Cidr::new([127, 0, 0, 0].into(), 8)]
            .into_iter()
            .flatten();
        let loopback: Vec<_> = loopback.collect();
        b.add_rule(
            "guard",
            &Rule::new(vec![
                bridge_in,
                equals(0, interface_name(bridge)),
                ip.destination(0),
                in_ranges(ip, &loopback, false),
                Expr::Verdict(linux::nftables::Verdict::Drop),
            ]),
        );
    }
    for chain in ["prerouting", "output"] {
        let to_node = all([destination_local(), vec![jump(CHAIN)]]);
        b.add_rule(chain, &Rule::new(to_node));
    }
    add_port_rules(&mut b, ip);
    add_masquerade_rules(&mut b, ip, bridge, pods, cluster);
    let mut elements = Elements::default();
    for lease in leases {
        let of = plan_elements(ip, lease)?;
        elements.ports.extend(of.ports);
        elements.address_ports.extend(of.address_ports);
        elements.hairpin.extend(of.hairpin);
    }
    add(&mut b, &elements);
    Ok(b)
}

fn add_sets(b: &mut Batch, ip: Ip) {
    let target = || SetKind::Map(vec![ip.data_type(), DataType::InetService]);
    let port = vec![DataType::InetProto, DataType::InetService];
    let address_port = vec![ip.data_type(), DataType::InetProto, DataType::InetService];
    b.add_set(&Set::new(PORTS, port, target()));
    b.add_set(&Set::new(ADDRESS_PORTS, address_port, target()));
    let pair = vec![ip.data_type(), ip.data_type()];
    b.add_set(&Set::new(HAIRPIN, pair, SetKind::Set));
}

fn add_port_rules(b: &mut Batch, ip: Ip) {
    let n = ip.words();
    let translate = |set: &str| Expr::Lookup {
        set: set.into(),
        register: linux::nftables::register::data(0),
        target: Some(linux::nftables::register::data(0)),
        invert: false,
    };
    b.add_rule(
        CHAIN,
        &Rule::new(vec![
            ip.destination(0),
            protocol(n),
            destination_port(n + 1),
            translate(ADDRESS_PORTS),
            ip.dnat(0),
        ]),
    );
    b.add_rule(
        CHAIN,
        &Rule::new(vec![
            protocol(0),
            destination_port(1),
            translate(PORTS),
            ip.dnat(0),
        ]),
    );
}

fn add_masquerade_rules(b: &mut Batch, ip: Ip, bridge: &str, pods: &[Cidr], cluster: &[Cidr]) {
    let hairpin = vec![
        ip.source(0),
        ip.destination(ip.words()),
        member(HAIRPIN),
        masquerade(),
    ];
    b.add_rule("postrouting", &Rule::new(all([status_dnat(), hairpin])));
    let bridge_out = |expr: fn(u32, Vec<u8>) -> Expr| {
        vec![
            Expr::Meta {
                key: linux::nftables::MetaKey::OifName,
                register: linux::nftables::register::data(0),
            },
            expr(0, interface_name(bridge)),
        ]
    };
    if ip == Ip::V4 {
        let loopback: Vec<_> = Cidr::new([127, 0, 0, 0].into(), 8).into_iter().collect();
        let from_loopback = vec![ip.source(0), in_ranges(ip, &loopback, false), masquerade()];
        b.add_rule(
            "postrouting",
            &Rule::new(all([bridge_out(equals), status_dnat(), from_loopback])),
        );
    }
    let of = |ranges: &[Cidr]| -> Vec<Cidr> {
        let mine = ranges.iter().filter(|c| c.is_ipv6() == ip.is_v6());
        mine.copied().collect()
    };
    let (pods, mut inside) = (of(pods), of(cluster));
    if pods.is_empty() {
        return;
    }
    inside.extend(&pods);
    let multicast = if ip.is_v6() {
        "ff00::/8"
    } else {
        "224.0.0.0/4"
    };
    inside.extend(multicast.parse::<Cidr>());
    let leaving = vec![
        ip.source(0),
        in_ranges(ip, &pods, false),
        ip.destination(0),
        in_ranges(ip, &inside, true),
    ];
    let rule = all([leaving, bridge_out(differs), vec![masquerade()]]);
    b.add_rule("postrouting", &Rule::new(rule).comment("pods to the world"));
}

/// What a lease adds to a family's sets.
pub(crate) fn plan_elements(ip: Ip, lease: &Lease) -> Result<Elements, Error> {
    let mut out = Elements::default();
    let ports = &lease.request.port_mappings;
    if ports.len() > limits::PORT_MAPPINGS_MAX {
        return Err(Error::TooManyPortMappings(ports.len()));
    }
    let Some(pod) = lease.result.ips.iter().find(|i| i.is_ipv6() == ip.is_v6()) else {
        return Ok(out);
    };
    let pod = octets(*pod);
    for mapping in ports.iter().filter(|m| m.host_port != 0) {
        let port = mapping.host_port.to_be_bytes();
        let number = [protocol_number(mapping.protocol)];
        let target = Data::Value(Key::of(&[&pod, &mapping.container_port.to_be_bytes()]).0);
        match host_ip(&mapping.host_ip)? {
            None => {
                let key = Key::of(&[&number, &port]);
                out.ports.push(Element::pair(key, target));
            }
            Some(on) if on.is_ipv6() == ip.is_v6() => {
                let key = Key::of(&[&octets(on), &number, &port]);
                out.address_ports.push(Element::pair(key, target));
            }
            Some(_) => {}
        }
    }
    if !out.ports.is_empty() || !out.address_ports.is_empty() {
        out.hairpin.push(Element::key(Key::of(&[&pod, &pod])));
    }
    Ok(out)
}

/// Appends a lease's elements to a transaction.
pub(crate) fn add(b: &mut Batch, e: &Elements) {
    b.add_elements(PORTS, &e.ports);
    b.add_elements(ADDRESS_PORTS, &e.address_ports);
    b.add_elements(HAIRPIN, &e.hairpin);
}

/// Appends their removal.
pub(crate) fn delete(b: &mut Batch, e: &Elements) {
    b.delete_elements(PORTS, &e.ports);
    b.delete_elements(ADDRESS_PORTS, &e.address_ports);
    b.delete_elements(HAIRPIN, &e.hairpin);
}

/// Refuses a request whose host ports another lease holds.
pub(crate) fn check_free<'a>(
    request: &cri::PodNetworkRequest,
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<(), Error> {
    if request.port_mappings.iter().all(|m| m.host_port == 0) {
        return Ok(());
    }
    let mut held = BTreeMap::<_, Vec<_>>::new();
    for lease in leases {
        for m in &lease.request.port_mappings {
            let key = (protocol_number(m.protocol), m.host_port);
            held.entry(key)
                .or_default()
                .push((host_ip(&m.host_ip)?, lease));
        }
    }
    for m in request.port_mappings.iter().filter(|m| m.host_port != 0) {
        let wanted = host_ip(&m.host_ip)?;
        let holders = held.get(&(protocol_number(m.protocol), m.host_port));
        // The same port on different addresses is fine, also next to one on all addresses: the
        // rule for single addresses comes first.
        let clash = holders.into_iter().flatten().find(|(on, _)| *on == wanted);
        if let Some((_, lease)) = clash {
            return Err(Error::HostPortTaken {
                port: m.host_port,
                protocol: protocol_name(m.protocol),
                holder: format!("{}/{}", lease.request.namespace, lease.request.name),
            });
        }
    }
    Ok(())
}

/// A host IP; `None` for all addresses.
fn host_ip(text: &str) -> Result<Option<IpAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text
        .parse()
        .map_err(|_| Error::InvalidHostIp(text.into()))?;
    Ok((!ip.is_unspecified()).then_some(ip))
}

/// IP protocol number.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
